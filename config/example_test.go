package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const example = "../config.example.yaml"

// below returns the mapping under a key, for a list of mappings or a mapping of
// them the first one.
func below(t *testing.T, n *yaml.Node, key string, first bool) *yaml.Node {
	t.Helper()
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != key {
			continue
		}
		n = n.Content[i+1]
		switch {
		case !first:
			return n
		case n.Kind == yaml.MappingNode:
			return n.Content[1]
		}
		return n.Content[0]
	}
	t.Fatalf("%s is not in %s", key, example)
	return nil
}

// mustShow checks that a mapping has every key that may be written, and that
// the end of the file names every key that may not be written yet.
func mustShow[T any](t *testing.T, where string, n *yaml.Node, fields []field[T], end string) {
	t.Helper()
	shown := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		shown[n.Content[i].Value] = true
	}
	for _, f := range fields {
		if f.later == "" && !shown[f.name] {
			t.Errorf("%s%s is not shown", where, f.name)
		}
		if f.later != "" && !strings.Contains(end, " "+f.name+": ") {
			t.Errorf("%s%s is not named among what is not supported yet", where, f.name)
		}
	}
}

// TestExampleShowsEveryKey keeps the example whole when a key is added.
func TestExampleShowsEveryKey(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	_, end, _ := strings.Cut(string(data), "# Not supported yet")
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	root := document.Content[0]
	mustShow(t, "", root, documentFields, end)
	mustShow(t, "listeners[].", below(t, root, "listeners", true), listenerFields, end)
	mustShow(t, "backends.*.", below(t, root, "backends", true), backendFields, end)
	acme := below(t, root, "acme", false)
	mustShow(t, "acme.", acme, acmeFields, end)
	mustShow(t, "acme.eab.", below(t, acme, "eab", false), eabFields, end)
	mustShow(t, "acme.dns.", below(t, acme, "dns", false), dnsFields, end)
	mustShow(t, "storage.", below(t, root, "storage", false), storageFields, end)
	mustShow(t, "tls.", below(t, root, "tls", false), tlsFields, end)
	mustShow(t, "limits.", below(t, root, "limits", false), limitFields, end)
	mustShow(t, "timeouts.", below(t, root, "timeouts", false), timeoutFields, end)
	backend := below(t, root, "backends", true)
	mustShow(t, "backends.*.health.", below(t, backend, "health", false), healthFields, end)
	mustShow(t, "admin.", below(t, root, "admin", false), adminFields, end)
	mustShow(t, "log.", below(t, root, "log", false), logFields, end)

	// A certificate has its keys spread over the three kinds there are.
	kinds := below(t, root, "certificates", false)
	together := &yaml.Node{}
	for _, kind := range kinds.Content {
		together.Content = append(together.Content, kind.Content...)
	}
	mustShow(t, "certificates[].", together, certificateFields, end)
}

// TestExampleShowsEveryProvider: only one can be in use, so the others are a
// table in a comment, which must have their keys, defaults and secrets right.
func TestExampleShowsEveryProvider(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		_, row, ok := strings.Cut(string(data), "\n  #   "+p.name+" ")
		row, _, _ = strings.Cut(row, "\n")
		if !ok {
			t.Errorf("%s is not shown", p.name)
		}
		shown := strings.FieldsFunc(row, func(r rune) bool { return strings.ContainsRune(" (),;", r) })
		for _, k := range p.settings {
			want := k.name
			if k.secret {
				want += "*"
			}
			if k.initial != "" || k.list {
				want += ":"
			}
			if !slices.Contains(shown, want) || k.initial != "" && !slices.Contains(shown, k.initial) {
				t.Errorf("%s of %s is not shown in %q", want, p.name, row)
			}
		}
	}
	for _, f := range directoryFields {
		if _, row, _ := strings.Cut(string(data), "or mappings\n"); !strings.Contains(strings.SplitN(row, "\n", 2)[0], f.name) {
			t.Errorf("%s of a fallback is not shown", f.name)
		}
	}
}

// TestExampleShowsTheDefaults compares with a file that writes nothing but
// what has no default.
func TestExampleShowsTheDefaults(t *testing.T) {
	got, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("least", []byte(`
hostname: mail.example.org
listeners:
  - {name: submissions, listen: ":465", tls: implicit, backend: mta}
  - {name: submission, listen: ":587", tls: starttls, backend: mta}
  - {name: mx, listen: ":25", tls: starttls-optional, backend: mta-mx}
backends:
  mta: {preset: postfix, servers: ["127.0.0.1:10025"]}
  mta-mx: {preset: postfix, servers: ["127.0.0.1:10026"]}
certificates:
  - names: [mail.example.org]
  - {cert_file: /etc/smtpseal/tls.crt, key_file: /etc/smtpseal/tls.key}
  - {names: [mail.internal], internal: true}
acme: {email: postmaster@example.org}
`))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", got, want)
	}
	if w := got.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}
}

// TestDefaultsAreThoseOfTheContract writes the defaults down a second time, so
// that one cannot change by a slip.
func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	c, err := Load("testdata/good/spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := defaults()
	d.Hostname, d.Listeners, d.Backends, d.Certificates, d.ACME.Email = c.Hostname, c.Listeners, c.Backends, c.Certificates, c.ACME.Email
	if !reflect.DeepEqual(*c, d) {
		t.Errorf("the contract says\n%+v\nthe defaults are\n%+v", *c, d)
	}
}
