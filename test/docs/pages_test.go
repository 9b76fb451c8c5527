package docs

import (
	"slices"
	"testing"
)

func TestCommandsOfAShell(t *testing.T) {
	for _, c := range []struct {
		line string
		args []string // nil: none of ours
	}{
		{"smtpseal check -c FILE     # all of it", []string{"check", "-c", "FILE"}},
		{"$ bin/smtpseal recipe postfix >> /etc/postfix/master.cf", []string{"recipe", "postfix"}},
		{"sudo -u smtpseal smtpseal certs list", []string{"certs", "list"}},
		{"install bin/smtpseal /usr/bin/", nil},
		{"postfix check && smtpseal status", []string{"status"}},
		{"smtpseal recipe exim --json | jq -r '.files[] | .path'", []string{"recipe", "exim", "--json"}},
		{"A=b smtpseal run --domain 'a b'", []string{"run", "--domain", "a b"}},
		{"adduser --system smtpseal", nil},
	} {
		p := parse("page", "```sh\n"+c.line+"\n```\n")
		var got []string
		for _, command := range p.Commands() {
			got = command.Args
		}
		if !slices.Equal(got, c.args) {
			t.Errorf("%s: got %q, want %q", c.line, got, c.args)
		}
	}
}

func TestCommandsOfOtherBlocks(t *testing.T) {
	p := parse("page", "text\n```yaml\npreStop: {exec: {command: [smtpseal, drain]}}\n```\n```ini\nExecStart=/usr/bin/smtpseal run -c FILE\n```\n"+
		"```sh\nsmtpseal certs roll NAME \\\n  --wait\n```\n")
	var got []string
	var lines []int
	for _, c := range p.Commands() {
		got, lines = append(got, c.Args...), append(lines, c.Line)
	}
	if want := []string{"drain", "run", "-c", "FILE", "certs", "roll", "NAME", "--wait"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []int{3, 6, 9}; !slices.Equal(lines, want) {
		t.Errorf("got lines %d, want %d", lines, want)
	}
}

func TestAnchors(t *testing.T) {
	p := parse("page", "# One *and* `two`\n```\n# no heading\n```\n## SMTP: 4xx, 5xx\n### [A link](there.md) of ours\n#none\n")
	got := p.Anchors()
	for _, want := range []string{"one-and-two", "smtp-4xx-5xx", "a-link-of-ours"} {
		if !got[want] {
			t.Errorf("there is no %s in %v", want, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("there are %v", got)
	}
}

// What the tests below must find, so that they cannot pass by seeing nothing.
func TestMistakesAreSeen(t *testing.T) {
	known := keys(t, Pages(t, root))
	for path, want := range map[string]bool{
		"backends.mta.relay_check": true, "health.interval": true, "listeners[0].listen": true, "acme.dns.tsig_name": true,
		"limits.max_session": false, "health.intervall": false, "backends.mta.dns": false,
	} {
		if isKey(known, path) != want {
			t.Errorf("%s is a key: %t", path, !want)
		}
	}
}
