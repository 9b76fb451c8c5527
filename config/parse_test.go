package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestNearest: a guess must be right, or not be made.
func TestNearest(t *testing.T) {
	words := []string{"name", "listen", "tls", "backend", "accept_proxy", "tls_policy"}
	for misspelt, want := range map[string]string{
		"lisen": "listen", "listne": "listen", "Listen": "listen", "listener": "listen", "TLS": "tls", "tsl": "tls",
		"accept-proxy": "accept_proxy", "policy": "", "ssl": "", "port": "", "": "", "nam": "name", "n": "",
	} {
		if got := nearest(misspelt, words); got != want {
			t.Errorf("%q: got %q, want %q", misspelt, got, want)
		}
	}
}

func TestSpellIsShortAndExact(t *testing.T) {
	for text, want := range map[string]string{
		"30s": "30s", "60s": "1m", "5m": "5m", "24h": "24h", "90m": "1h30m", "100ms": "100ms", "1h0m5s": "1h0m5s",
		"10m0.5s": "10m0.5s", "20m": "20m", "10h": "10h", "0s": "0s", "1h10m0s": "1h10m",
	} {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		got := spell(d)
		if again, err := time.ParseDuration(got); got != want || err != nil || again != d {
			t.Errorf("%s: got %s (%s, %v), want %s", text, got, again, err, want)
		}
	}
}

// TestMistakeIsOneLine pins the form that editors and scripts know.
func TestMistakeIsOneLine(t *testing.T) {
	for want, m := range map[string]Mistake{
		"f.yaml:3: a.b: is bad; write good": {File: "f.yaml", Line: 3, Path: "a.b", Problem: "is bad", Remedy: "write good"},
		"f.yaml:3: is bad; write good":      {File: "f.yaml", Line: 3, Problem: "is bad", Remedy: "write good"},
		"f.yaml: is bad; write good":        {File: "f.yaml", Problem: "is bad", Remedy: "write good"},
		"--flag: is bad; write good":        {Path: "--flag", Problem: "is bad", Remedy: "write good"},
	} {
		if m.String() != want {
			t.Errorf("got %q, want %q", m, want)
		}
	}
}

// FuzzParse: no text makes the reader panic, hang or stay silent; what it takes
// comes back from its own effective configuration unchanged.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", example} {
		all, err := filepath.Glob(pattern)
		if err != nil || len(all) == 0 {
			f.Fatalf("%s: %d files, %v", pattern, len(all), err)
		}
		for _, file := range all {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz", data)
		if err != nil {
			mustBeMistakes(t, c, err)
			return
		}
		c.Warnings()
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again", text)
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
		if !reflect.DeepEqual(readBack(c), again) {
			t.Fatalf("the file says\n%+v\nits effective configuration\n%+v\nof\n%s", c, again, text)
		}
		if twice, err := again.YAML(); err != nil || !bytes.Equal(text, twice) {
			t.Fatalf("%v: the effective configuration changes from\n%s\nto\n%s", err, text, twice)
		}
	})
}
