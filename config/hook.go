package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// readHook reads a URL, or a program with or without arguments.
func readHook(v value, a *ACME) {
	const example = "a URL, or a program such as /usr/local/bin/notify"
	text := v.node.Value
	if v.node.Kind == yaml.ScalarNode && (strings.HasPrefix(text, "https:") || strings.HasPrefix(text, "http:")) {
		if text, ok := v.text(example); ok {
			if _, ok := v.webURL(text, "https://example.org/hook"); ok {
				a.OnEvent.URL = text
			}
		}
		return
	}
	v.command(&a.OnEvent.Command, example)
}

// warnings: what the hook is told is no secret, but who is between could keep it
// from being told that a certificate ends.
func (h Hook) warnings() []string {
	u, err := url.Parse(h.URL)
	if err != nil || u.Scheme != "http" || !isPublicName(u.Hostname()) {
		return nil
	}
	return []string{fmt.Sprintf("acme.on_event: http without TLS to %s, so anybody on the way can read or drop what it is told. "+
		"Write https://, or an address in your own network", quote(u.Hostname()))}
}

// command reads a program and its arguments as a list, or a program alone. No
// shell ever sees them, so a line with blanks in it would be a strange name of
// a file; and no search path is used, since a service has another than the one
// who wrote it.
func (v value) command(into *[]string, example string) {
	if v.node.Kind != yaml.SequenceNode {
		text, ok := v.text(example)
		switch {
		case !ok || text == "":
		case strings.ContainsAny(text, " ") && isProgram(firstWord(text)):
			v.wrong("has blanks in it, and no shell will split it", "write a list: ["+strings.Join(quoteAll(strings.Fields(text)), ", ")+"]")
		case isProgram(text):
			*into = []string{text}
		default:
			v.wrong(quote(text)+" is no absolute path", "write "+example)
		}
		return
	}
	if len(v.node.Content) == 0 {
		v.wrong("is empty", "write "+example)
		return
	}
	var all []string
	v.items("write "+example, func(item value) {
		text, ok := item.text("an argument in quotes")
		if ok && len(all) == 0 && !isProgram(text) {
			item.wrong(quote(text)+" is no absolute path", "write a program such as /usr/local/bin/notify")
		}
		all = append(all, text)
	})
	*into = all
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

// quoteAll bounds what a remedy repeats.
func quoteAll(words []string) []string {
	all := make([]string, 0, 4)
	for i, word := range words {
		if i == 4 {
			return append(all, "…")
		}
		all = append(all, quote(word))
	}
	return all
}

func isProgram(text string) bool { return filepath.IsAbs(text) || strings.HasPrefix(text, "/") }
