package config

import (
	"errors"
	"reflect"
	"slices"
	"testing"
)

// TestQuickIsAFileWithoutTheFile compares with what an operator would write.
func TestQuickIsAFileWithoutTheFile(t *testing.T) {
	for flag, proxy := range map[string]string{"": "off", "off": "off", "v1": "v1", "v2": "v2"} {
		got, err := Quick("localhost", "127.0.0.1:2525", flag, "")
		if err != nil {
			t.Fatal(err)
		}
		want, err := Parse("the same", []byte(`
listeners:
  - {name: submissions, listen: ":465", tls: implicit}
  - {name: submission, listen: ":587", tls: starttls}
backends:
  backend: {servers: ["127.0.0.1:2525"], proxy_protocol: `+proxy+`}
certificates:
  - {names: [localhost, 127.0.0.1, "::1"], internal: true}
`))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got\n%+v\nwant\n%+v", flag, got, want)
		}
		if warned := len(got.Warnings()) == 1; warned != (proxy == "off") {
			t.Errorf("%q: warnings %q", flag, got.Warnings())
		}
	}
}

// TestQuickByACMEIsAFileWithoutTheFile: all defaults, and so few words that
// nobody needs a file to begin with.
func TestQuickByACMEIsAFileWithoutTheFile(t *testing.T) {
	for email, section := range map[string]string{"": "", "postmaster@example.org": "acme: {email: postmaster@example.org}"} {
		got, err := Quick("Mail.Example.org", "127.0.0.1:2525", "v2", email)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Parse("the same", []byte(`
listeners:
  - {name: submissions, listen: ":465", tls: implicit}
  - {name: submission, listen: ":587", tls: starttls}
backends:
  backend: {preset: plain, servers: ["127.0.0.1:2525"], proxy_protocol: v2}
certificates:
  - names: [mail.example.org]
`+section))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got\n%+v\nwant\n%+v", email, got, want)
		}
		if warned := len(got.Warnings()) == 1; warned != (email == "") {
			t.Errorf("%q: warnings %q", email, got.Warnings())
		}
	}
}

func TestQuickNamesTheFlag(t *testing.T) {
	for _, c := range []struct {
		domain, backend, proxy, email string
		want                          []string
	}{
		{"*.example.org", "127.0.0.1:25", "v2", "", []string{
			`--domain: "*.example.org" is a wildcard, which takes dns-01; write a file with acme.challenges: [dns-01] and acme.dns, and name it with -c`}},
		{"192.0.2.1", "127.0.0.1:25", "v2", "mailto:a@b.example", []string{
			`--domain: "192.0.2.1" is an address, for which a CA has rules of its own; write a host name, or a file with acme.profile, and name it with -c`,
			`--email: "mailto:a@b.example" is no email address; write the address alone, without mailto:`}},
		{"", "", "v3", "postmaster", []string{
			`--backend: "" is no address; write host:port, such as "127.0.0.1:25", or unix:PATH`,
			`--proxy-protocol: "v3" is none of its values; write one of off, v1, v2`,
			`--domain: "" is no host name; write a host name such as mail.example.org`,
			`--email: "postmaster" is no email address; write one such as postmaster@example.org, or remove it`}},
		{"Localhost", ":25", "", "", []string{`--backend: has no host; write one, such as "127.0.0.1:25"`}},
		{"localhost", "localhost:587", "", "", []string{
			`--backend: "localhost:587" is our own address, and sessions would go round in circles; write where the mail server itself listens`}},
		{"two words", "a:25\n", "", "", []string{
			`--backend: "a:25\n" has characters in it that cannot be printed; write "127.0.0.1:25" or unix:PATH`,
			`--domain: "two words" is no host name; write a host name such as mail.example.org`}},
	} {
		got, err := Quick(c.domain, c.backend, c.proxy, c.email)
		var mistakes Mistakes
		if got != nil || !errors.As(err, &mistakes) {
			t.Fatalf("got %+v and %v", got, err)
		}
		var lines []string
		for _, m := range mistakes {
			lines = append(lines, m.String())
		}
		if !slices.Equal(lines, c.want) {
			t.Errorf("got\n%q\nwant\n%q", lines, c.want)
		}
	}
}
