package config

import (
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files; then read them")

// golden compares with the file beside the case.
func golden(t *testing.T, file, got string) {
	t.Helper()
	name := strings.TrimSuffix(file, ".yaml") + ".golden"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// files are the cases of a folder; at least says how many there must be, so
// that a pattern that matches nothing fails.
func files(t *testing.T, pattern string, least int) []string {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil || len(all) < least {
		t.Fatalf("%s: %d files, %v; want at least %d", pattern, len(all), err, least)
	}
	return all
}

// TestGoodFiles pins what a file comes to, defaults and presets filled in, and
// that the effective configuration is itself a file that says the same.
func TestGoodFiles(t *testing.T) {
	for _, file := range files(t, "testdata/good/*.yaml", 20) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			text, err := c.YAML()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, string(text))
			again, err := Parse("again", text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(readBack(c), again) {
				t.Errorf("the file says\n%+v\nits effective configuration\n%+v", c, again)
			}
		})
	}
}

// readBack is what comes of a configuration that is printed and read again:
// secrets are masked, and the file they stood in is another.
func readBack(c *Config) *Config {
	again := *c
	hide := func(s *Secret) {
		if s.literal() != "" && !s.plain {
			*s = newSecret(s.key, mask, false)
		}
	}
	again.exposed = false
	hide(&again.ACME.EAB.HMACKey)
	hide(&again.Storage.URL)
	hide(&again.Storage.EncryptionKey)
	again.ACME.Fallback = slices.Clone(c.ACME.Fallback)
	for i := range again.ACME.Fallback {
		hide(&again.ACME.Fallback[i].EAB.HMACKey)
	}
	again.ACME.DNS.Settings = maps.Clone(c.ACME.DNS.Settings)
	for key, s := range c.ACME.DNS.Settings {
		hide(&s)
		again.ACME.DNS.Settings[key] = s
	}
	return &again
}

// TestBadFiles pins every mistake to the letter: operators read them, and so
// do scripts.
func TestBadFiles(t *testing.T) {
	for _, file := range files(t, "testdata/bad/*.yaml", 100) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(file), data)
			mistakes := mustBeMistakes(t, c, err)
			golden(t, file, mistakes.Error()+"\n")
		})
	}
}

// mustBeMistakes checks what holds for every mistake in a file.
func mustBeMistakes(t *testing.T, c *Config, err error) Mistakes {
	t.Helper()
	var mistakes Mistakes
	if c != nil || !errors.As(err, &mistakes) || len(mistakes) == 0 {
		t.Fatalf("got %+v and %v, want mistakes", c, err)
	}
	for i, m := range mistakes {
		if m.Line < 1 || m.Problem == "" || m.Remedy == "" {
			t.Errorf("mistake without a line, a problem or a remedy: %+v", m)
		}
		if i > 0 && m.Line < mistakes[i-1].Line {
			t.Errorf("line %d comes after line %d", m.Line, mistakes[i-1].Line)
		}
		if strings.ContainsFunc(m.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("control characters in %q", m.String())
		}
		if slices.Contains(mistakes[:min(i, 50)], m) {
			t.Errorf("said twice: %s", m)
		}
	}
	return mistakes
}
