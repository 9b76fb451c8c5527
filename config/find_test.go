package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindAdmin(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "127.0.0.1:9465",
		"admin: {listen: \"127.0.0.1:1\"}\n": "127.0.0.1:1",
		"x: [\nadmin: {listen: \"127.0.0.1:2\"}\n":                    "127.0.0.1:2", // no YAML
		"x: {\nadmin: {pprof: true, listen: [127.0.0.1:3, \":4\"]}\n": "127.0.0.1:3",
		"x: {\nadmin:  # here\n  pprof: true\n\n  listen: ':5'\n":     ":5",
		"x: {\nadmin:\n  listen:\n    - unix:/run/a.sock\n":           "127.0.0.1:9465", // too clever
		"x: {\nadmin:\n  listen: unix:/run/a.sock\n":                  "unix:/run/a.sock",
		"x: {\nadmin:\nother:\n  listen: ':6'\n":                      "127.0.0.1:9465", // another's
		"admin: {listen: ':7'}\nadmin: {listen: ':8'}\n":              ":7",
		"admin: {listen: nonsense}\n":                                 "127.0.0.1:9465",
		"listeners: nonsense\nadmin: {listen: ':9'}\n":                ":9",
		"x: {\n# admin: {listen: ':6'}\n  admin: {listen: ':6'}\n":    "127.0.0.1:9465",
	} {
		file := filepath.Join(t.TempDir(), "a.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := FindAdmin(file); len(got) == 0 || got[0].String() != want {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
	if got := FindAdmin("/nowhere"); len(got) != 1 || got[0] != AdminDefault {
		t.Errorf("of no file: %v", got)
	}
}
