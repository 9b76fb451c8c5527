package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// text reads one line of printable text; example is for the remedy. What ends
// up in a log, a path or an SMTP reply must not bring line ends of its own.
func (v value) text(example string) (string, bool) {
	remedy := "write " + example
	if !v.is(yaml.ScalarNode, "text", remedy) {
		return "", false
	}
	if v.node.Tag != "!!str" {
		v.wrong("is "+describe(v.node)+" where text belongs", remedy)
		return "", false
	}
	if strings.ContainsFunc(v.node.Value, notPrintable) {
		v.wrong(quote(v.node.Value)+" has characters in it that cannot be printed", remedy)
		return "", false
	}
	return v.node.Value, true
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) }

// choices are the words that a key may have.
type choices struct {
	words    []string
	optional bool     // "" may be written for the default
	later    []string // not supported yet
	now      string   // what to do without those
	write    string   // the remedy where the words are too many to list
}

func (c choices) remedy() string {
	switch {
	case c.write != "":
		return c.write
	case len(c.words) == 1:
		return "write " + c.words[0]
	}
	return "write one of " + strings.Join(c.words, ", ")
}

// choose reads one of a few words. It takes the scalar as it is spelt, so that
// 1.2 and off mean the words and not a number and a truth value.
func (v value) choose(into *string, c choices) {
	if !v.is(yaml.ScalarNode, "a word", c.remedy()) {
		return
	}
	word := v.node.Value
	switch {
	case slices.Contains(c.words, word), c.optional && word == "":
		*into = word
	case slices.Contains(c.later, word):
		v.later(quote(word), c.now)
	default:
		v.wrong(quote(word)+" is none of its values", c.remedy())
	}
}

// chooseAll reads a list of words, each at most once.
func (v value) chooseAll(into *[]string, c choices) {
	v.items("write a list, each item "+strings.TrimPrefix(c.remedy(), "write "), func(item value) {
		var word string
		item.choose(&word, c)
		switch {
		case word == "":
		case slices.Contains(*into, word):
			item.wrong(quote(word)+" is written twice", "keep one of the two")
		default:
			*into = append(*into, word)
		}
	})
}

// filePath reads the name of a file or directory; a relative one starts from
// the directory in which smtpseal runs.
func (v value) filePath(into *string, example string) {
	text, ok := v.text(example)
	if ok && text == "" {
		v.wrong("is empty", "write "+example)
		return
	}
	*into = text
}

func (v value) flag(into *bool) {
	const remedy = "write true or false"
	if !v.is(yaml.ScalarNode, "true or false", remedy) {
		return
	}
	switch v.node.Value {
	case "true":
		*into = true
	case "false":
		*into = false
	default:
		v.wrong("is "+describe(v.node)+" where true or false belongs", remedy)
	}
}

// integer reads a plain decimal number. YAML would also take 0x10, 1_000 and,
// as eight, 010: an operator who writes such a thing by mistake hears of it.
func (v value) integer(into *int, least, most int) {
	remedy := fmt.Sprintf("write a whole number from %d to %d", least, most)
	if !v.is(yaml.ScalarNode, "a whole number", remedy) {
		return
	}
	n, err := strconv.Atoi(v.node.Value)
	switch {
	case v.node.Tag == "!!int" && err == nil && strconv.Itoa(n) == v.node.Value:
		if n < least || n > most {
			v.wrong(fmt.Sprintf("%d is out of bounds", n), remedy)
			return
		}
		*into = n
	case v.node.Tag == "!!int" && len(v.node.Value) > 18:
		v.wrong(quote(v.node.Value)+" is out of bounds", remedy)
	default:
		v.wrong("is "+describe(v.node)+" where a plain whole number belongs", remedy)
	}
}

// duration reads a time with its unit, as Go writes it.
func (v value) duration(into *time.Duration, most time.Duration) {
	v.durationFrom(into, time.Millisecond, most)
}

func (v value) durationFrom(into *time.Duration, least, most time.Duration) {
	remedy := fmt.Sprintf("write a time from %s to %s, such as 30s or 5m", spell(least), spell(most))
	if !v.is(yaml.ScalarNode, "a time", remedy) {
		return
	}
	d, err := time.ParseDuration(v.node.Value)
	seconds, notSeconds := time.ParseDuration(v.node.Value + "s")
	switch {
	case v.node.Tag == "!!int" && notSeconds == nil && seconds >= least && seconds <= most:
		v.wrong("is a number without a unit", "write "+v.node.Value+"s for seconds; the units are ms, s, m and h")
	case v.node.Tag != "!!str":
		v.wrong("is "+describe(v.node)+" where a time belongs", remedy)
	case err != nil:
		v.wrong(quote(v.node.Value)+" is no time", remedy)
	case d < least || d > most:
		v.wrong(spell(d)+" is out of bounds", remedy)
	default:
		*into = d
	}
}

// spell writes a duration as an operator would: 5m, not 5m0s.
func spell(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
