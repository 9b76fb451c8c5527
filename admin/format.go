package admin

import (
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"
)

// number is a number on the page. It carries where it is in /status (a path; *
// is every element, and what is below it is added up) and which metric it is
// (all series with these labels, added up), so that a test can compare them.
func number(value any, text, metric, labels string, path ...any) template.HTML {
	attributes := ""
	attribute := func(name, value string) {
		if value != "" {
			attributes += fmt.Sprintf(` %s="%s"`, name, template.HTMLEscapeString(value))
		}
	}
	attribute("value", fmt.Sprint(value))
	attribute("data-status", join(path))
	attribute("data-metric", metric)
	attribute("data-labels", labels)
	return template.HTML("<data" + attributes + ">" + template.HTMLEscapeString(text) + "</data>")
}

func join(path []any) string {
	var parts []string
	for _, part := range path {
		parts = append(parts, fmt.Sprint(part))
	}
	return strings.Join(parts, ".")
}

// labels are those of a metric: name, value, name, value.
func labels(pairs ...string) (string, error) {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	text, err := json.Marshal(m)
	return string(text), err
}

// count is 1,234,567.
func count(value any) string {
	digits := fmt.Sprint(value)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// bytesText is a size with three digits or so: 1.2 MB.
func bytesText(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), 0
	for ; value >= 999.5 && unit < len("kMGTPE"); unit++ {
		value /= 1000
	}
	digits := 1
	if value >= 99.95 {
		digits = 0
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + "kMGTPE"[unit-1:unit] + "B"
}

// moment is a time as people say it, with the exact one behind it.
func moment(now, t time.Time) template.HTML { return exactly(t, ago(t.Sub(now))) }

// lasting is how long ago a time is.
func lasting(now, t time.Time) template.HTML { return exactly(t, span(max(0, now.Sub(t)))) }

func exactly(t time.Time, text string) template.HTML {
	exact := t.UTC().Format(time.RFC3339)
	return template.HTML(`<time datetime="` + exact + `" title="` + exact + `">` + text + "</time>")
}

// ago is a difference to now, rounded as people would.
func ago(d time.Duration) string {
	switch {
	case d.Abs() < time.Second:
		return "just now"
	case d < 0:
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d/day))
}

// words makes a name of ours one for people: tls_failed is TLS failed.
func words(name string) string {
	all := strings.Split(name, "_")
	for i, word := range all {
		switch word {
		case "tls", "starttls", "proxy", "bdat":
			all[i] = strings.ToUpper(word)
		}
	}
	return strings.Join(all, " ")
}

// An entry is one of a map, in an order that does not change from one look to
// the next.
type entry[V any] struct {
	Key   string
	Value V
}

// The orders in which sessions come to phases, and people think of outcomes.
// What is not here comes behind, by name.
var (
	phaseOrder   = []string{"accept", "cleartext", "handshake", "dial", "greeting", "command", "reply", "auth", "body"}
	outcomeOrder = []string{"completed", "client_closed", "client_timeout", "no_tls", "tls_failed", "refused", "violation",
		"backend_unreachable", "backend_refused", "backend_closed", "shutdown", "internal"}
)

func ordered[V any](m map[string]V, order []string) []entry[V] {
	var all []entry[V]
	for key, value := range m {
		all = append(all, entry[V]{key, value})
	}
	place := func(key string) int {
		if i := slices.Index(order, key); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(all, func(a, b entry[V]) int {
		if d := place(a.Key) - place(b.Key); d != 0 {
			return d
		}
		return strings.Compare(a.Key, b.Key)
	})
	return all
}

func phases(m map[string]int) []entry[int] { return ordered(m, phaseOrder) }

// outcomes are those that have happened; most have not.
func outcomes(m map[string]int64) []entry[int64] { return happened(ordered(m, outcomeOrder)) }

func kinds(m map[string]int64) []entry[int64] { return happened(ordered(m, nil)) }

func happened(all []entry[int64]) []entry[int64] {
	return slices.DeleteFunc(all, func(e entry[int64]) bool { return e.Value == 0 })
}

// total is the sum of a map.
func total[V int | int64](m map[string]V) (n V) {
	for _, v := range m {
		n += v
	}
	return n
}
