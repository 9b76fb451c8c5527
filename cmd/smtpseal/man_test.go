package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestManWritesAPageForEveryCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man8") // is made
	if code, stdout, stderr := command("man", dir); code != 0 || stdout != "" || stderr != "" {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	root := program{}.root()
	for _, c := range append(root.Commands(), root) {
		text, err := os.ReadFile(filepath.Join(dir, pageName(c)+".8"))
		if err != nil {
			t.Error(err)
			continue
		}
		page := string(text)
		wellFormed(t, pageName(c), page)
		for _, want := range []string{".TH ", ".SH NAME\n" + roff(pageName(c)) + ` \- `, ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH EXIT STATUS\n"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: no %q", pageName(c), want)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(page, roff("--"+f.Name)+`\fR`) {
				t.Errorf("%s: no --%s", pageName(c), f.Name)
			}
		})
	}
}

// wellFormed looks for what makes roff complain: a request it does not know, or
// text that it would take for one.
func wellFormed(t *testing.T, name, page string) {
	t.Helper()
	requests := map[string]bool{".TH": true, ".SH": true, ".TP": true, ".B": true, ".BR": true, ".I": true, ".br": true, ".PP": true, ".nf": true, ".fi": true}
	for line := range strings.Lines(page) {
		word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) && !requests[word] {
			t.Errorf("%s: request %q", name, line)
		}
	}
	if strings.Count(page, "\n.nf\n") != strings.Count(page, "\n.fi\n") {
		t.Errorf("%s: .nf without .fi", name)
	}
}

func TestRoffKeepsTextText(t *testing.T) {
	for text, want := range map[string]string{
		"plain":            "plain",
		"--once":           `\-\-once`,
		`a\b`:              `a\eb`,
		".TH fake":         `\&.TH fake`,
		"a\n'quote\n.b":    "a\n\\&'quote\n\\&.b",
		"middle . of it":   "middle . of it",
		"one\n\ntwo three": "one\n\ntwo three",
	} {
		if got := roff(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := paragraphs("one\n\ntwo\n"); got != "one\n.PP\ntwo" {
		t.Errorf("%q", got)
	}
}
