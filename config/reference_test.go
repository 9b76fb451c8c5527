package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// The reference is made of what is true already: keys of the tables that read
// them, what each takes of its reader's own remedy, meanings of the example's
// comments, and defaults of what stays the same without the key.
const (
	reference = "../docs/configuration.md"
	intro     = "<!-- Made by go test ./config -run TestTheReferenceIsFresh -update. Change config.example.yaml instead. -->\n\n" +
		"# Configuration\n\nEvery key. [config.example.yaml](../config.example.yaml) is the same as a file to begin with, and\n" +
		"`smtpseal check -c FILE` names every mistake in yours. `[]` stands for each item of a list, `*` for a name of your\n" +
		"choice. Where no default is given, a key that is left out does nothing.\n\n"
)

func TestTheReferenceIsFresh(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	got := intro + page(t, data)
	if *update {
		if err := os.WriteFile(reference, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what keys, bounds and comments come to: go test ./config -run TestTheReferenceIsFresh -update", reference)
	}
}

// A key is one of the tables', without its type.
type key struct {
	path string
	read func(value)
}

func keysOf[T any](path string, fields []field[T]) (all []key) {
	for _, f := range fields {
		if f.later == "" {
			all = append(all, key{path + f.name, func(v value) { f.read(v, new(T)) }})
		}
	}
	return all
}

// nested are the keys below a key.
var nested = map[string][]key{
	"":                    keysOf("", documentFields),
	"listeners":           keysOf("listeners[].", listenerFields),
	"backends":            keysOf("backends.*.", backendFields),
	"backends.*.health":   keysOf("backends.*.health.", healthFields),
	"certificates":        keysOf("certificates[].", certificateFields),
	"acme":                keysOf("acme.", acmeFields),
	"acme.eab":            keysOf("acme.eab.", eabFields),
	"acme.dns":            keysOf("acme.dns.", dnsFields),
	"acme.fallback":       keysOf("acme.fallback[].", directoryFields),
	"acme.fallback[].eab": keysOf("acme.fallback[].eab.", eabFields),
	"storage":             keysOf("storage.", storageFields),
	"tls":                 keysOf("tls.", tlsFields),
	"limits":              keysOf("limits.", limitFields),
	"timeouts":            keysOf("timeouts.", timeoutFields),
	"admin":               keysOf("admin.", adminFields),
	"log":                 keysOf("log.", logFields),
}

// takes is what the reader of a key says that it wants, when it gets a mapping.
func (k key) takes() string {
	r := &reader{}
	k.read(value{r, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, k.path})
	if len(r.mistakes) == 0 || !strings.Contains(r.mistakes[0].Problem, "belongs") {
		return "a mapping"
	}
	wants := strings.TrimPrefix(r.mistakes[0].Remedy, "write ")
	wants, _, _ = strings.Cut(wants, ", such as 30s")
	return wants
}

func page(t *testing.T, data []byte) string {
	t.Helper()
	e := newExample(t, data)
	var b strings.Builder
	b.WriteString(prose(e.general))
	for _, section := range nested[""] {
		fmt.Fprintf(&b, "\n## %s\n\n", section.path)
		rows := []key{section}
		if below := nested[section.path]; below != nil {
			b.WriteString(prose(e.meaning[section.path]) + "\n")
			rows = below
		}
		b.WriteString("| key | takes | default | |\n|---|---|---|---|\n")
		for _, k := range rows {
			e.row(t, &b, k)
		}
		if section.path == "acme" {
			b.WriteString(providerTable())
		}
	}
	b.WriteString("\n## Not supported yet\n\nRefused, rather than ignored.\n\n" + prose(e.later))
	return b.String()
}

// row writes a key, and those below it.
func (e *exampleFile) row(t *testing.T, b *strings.Builder, k key) {
	t.Helper()
	takes := k.takes()
	if takes == "a mapping" && nested[k.path] == nil {
		t.Errorf("what is below %s is not known here", k.path)
	}
	meaning, standard := e.meaning[k.path], e.standard(k.path)
	if text, given := cutDefault(meaning); given != "" {
		meaning, standard = text, given
	}
	if rest, fallback := strings.CutPrefix(k.path, "acme.fallback[]"); fallback && meaning == "" {
		meaning = "as acme" + rest
	}
	// Bounds are in another column, and so are providers in another table.
	meaning, _, _ = strings.Cut(boundAtEnd.ReplaceAllString(meaning, ""), " Those with a *")
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.path, cell(takes), cell(standard), cell(meaning))
	for _, below := range nested[k.path] {
		e.row(t, b, below)
	}
}

var boundAtEnd = regexp.MustCompile(`(^|[;,] )(at most|up to|[0-9]\w* to) \w*[0-9]\w*$`)

var saysDefault = regexp.MustCompile(`(?s)[;.]? ?[Dd]efault: ([^.]*)\.?$`)

// cutDefault parts a comment from a default that it tells in words.
func cutDefault(comment string) (rest, standard string) {
	at := saysDefault.FindStringSubmatchIndex(comment)
	if at == nil {
		return comment, ""
	}
	return comment[:at[0]], comment[at[2]:at[3]]
}

// standard is the value in the example if the file means the same without it.
func (e *exampleFile) standard(path string) string {
	at, found := e.at[path]
	if !found {
		return ""
	}
	same, err := Parse("shorter", e.without(at))
	switch {
	case err != nil && strings.Contains(err.Error(), "is missing") &&
		!strings.Contains(e.meaning[path], "left out") && !strings.HasPrefix(path, "certificates[]"): // of three kinds
		return "needed"
	case err != nil || !reflect.DeepEqual(same, e.config):
		return ""
	}
	switch value := at.mapping.Content[at.index+1]; {
	case value.Kind == yaml.MappingNode, value.Value == "" && len(value.Content) == 0:
		return ""
	default:
		return flow(value)
	}
}

func flow(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return "`" + n.Value + "`"
	}
	var all []string
	for _, item := range n.Content {
		all = append(all, item.Value)
	}
	return "`[" + strings.Join(all, ", ") + "]`"
}

// providerTable has the keys that only one provider has.
func providerTable() string {
	var b strings.Builder
	b.WriteString("\nKeys of the providers, each `acme.dns.KEY`:\n\n| provider | key | takes | default |\n|---|---|---|---|\n")
	for _, p := range providers {
		for _, k := range p.settings {
			takes, standard := k.example, ""
			if takes == "" {
				takes = k.wants()
			}
			if k.secret {
				takes += "; a secret"
			}
			switch i := slices.IndexFunc(p.together, func(both [2]string) bool { return slices.Contains(both[:], k.name) }); {
			case k.required:
				standard = "needed"
			case i >= 0:
				standard = "needed beside `" + other(p.together[i], k.name) + "`"
			case k.initial != "":
				standard = "`" + k.initial + "`"
			}
			fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", p.name, k.name, cell(takes), standard)
		}
	}
	b.WriteString("\nWithout keys `route53` takes what the AWS SDK finds: environment, files, the machine's role.\n")
	return b.String()
}

// wants is what the check of a setting says, when it gets nonsense.
func (k setting) wants() string {
	r := &reader{}
	k.check(value{r, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "?"}, k.name}, "?")
	return strings.TrimPrefix(r.mistakes[0].Remedy, "write ")
}

func other(both [2]string, name string) string {
	if both[0] == name {
		return both[1]
	}
	return both[0]
}
