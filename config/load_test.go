package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", maxSize+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(folder, "none.yaml"): "there is no such file; write one after config.example.yaml, or name another with -c",
		folder:                             "is a directory; name the file in it",
		large:                              "is larger than 524288 bytes; split off what does not belong into a configuration",
		"/dev/zero":                        "is larger than 524288 bytes; split off what does not belong into a configuration",
		"/dev/null/x":                      "cannot be read: not a directory; name a readable file with -c",
	} {
		c, err := Load(file)
		var mistakes Mistakes
		if c != nil || !errors.As(err, &mistakes) || len(mistakes) != 1 || mistakes[0].String() != file+": "+want {
			t.Errorf("got %+v and %v, want %s: %s", c, err, file, want)
		}
	}
}

// TestUnreadableFile stands in for a file without the right to read it, which
// root does not have.
func TestUnreadableFile(t *testing.T) {
	problem, remedy := whyUnread(&fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission})
	if problem != "this user may not read it" || remedy == "" {
		t.Errorf("got %q; %q", problem, remedy)
	}
}

func TestAFileOfTheLargestSizeIsRead(t *testing.T) {
	least, err := os.ReadFile("testdata/good/least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	full := append(least, strings.Repeat("#", maxSize-len(least))...)
	if _, err := Parse("full", full); err != nil {
		t.Error(err)
	}
	if _, err := Parse("full", append(full, '#')); err == nil {
		t.Error("a byte more was read too")
	}
}

// TestHostileFilesCostLittle gives whole files of what costs readers of YAML
// most. A reader that expands, nests or compares without bound takes minutes
// and gigabytes for them; the test's own time limit is then what fails.
func TestHostileFilesCostLittle(t *testing.T) {
	laughs := "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := 1; i < 100; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	for name, text := range map[string]string{
		"billion laughs":        laughs + "listeners: *a99\nhostname: *a99\n",
		"nested brackets":       repeated("listeners: ", "["),
		"nested braces":         repeated("", "{a: "),
		"nested lists":          repeated("", "- "),
		"comments":              repeated("hostname: a\n", "#\n"),
		"items with comments":   repeated("listeners:\n", "- #\n"),
		"empty lines":           repeated("", "\n"),
		"one long key":          repeated("", "k") + ": {}\n",
		"one long name":         "backends:\n  " + strings.Repeat("n", 1000) + repeated(": {", "a: , "),
		"keys twice":            repeated("", "a: b\n"),
		"unknown keys":          numbered("", "bakend%d: b\n"),
		"backends":              numbered("listeners:\n- {backend: a}\nbackends:\n", "  b%d: {}\n"),
		"listeners and names":   numbered("backends: {a1: {}, a2: {}}\nlisteners:\n", "- {backend: a%d, listen: \":25\", tls: x}\n"),
		"the same address":      repeated("listeners:\n- listen: [", `":25",`) + "]\n",
		"addresses on one port": numbered("listeners:\n- listen: [", `"h%d:25",`) + "]\n",
		"servers":               numbered("backends:\n  a:\n    servers: [", `"h%d:25",`) + "]\n",
		"longest list":          listOf("backends:\n  a:\n    servers: [", `"h%d:25",`) + "]\n",
		"longest hidden list":   listOf("backends:\n  a:\n    hide_extensions: [", `H%d,`) + "]\n",
		"longest fallback list": listOf("acme:\n  fallback: [", `"https://h%d.example",`) + "]\n",
		"longest name list":     listOf("certificates:\n- names: [", `"*.h%d",`) + "]\n",
		"longest resolver list": listOf("acme:\n  dns:\n    resolvers: [", `"h%d:x",`) + "]\n",
		"longest command":       listOf("acme:\n  on_event: [x,", `"h%d",`) + "]\n",
		"one long command":      "acme:\n  on_event: /" + repeated("", "a ") + "\n",
		"one long secret":       "storage: {encryption_key: " + repeated("", "a") + "}\n",
		"keys of no provider":   numbered("acme:\n  dns:\n", "    k%d: x\n"),
		"keys of a provider":    numbered("acme:\n  dns:\n    provider: exec\n", "    k%d: x\n"),
		"longest network list":  listOf("listeners:\n- accept_proxy: [", `"2001:db8::%d",`) + "]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("hostile", []byte(text[:min(len(text), maxSize)]))
			var mistakes Mistakes
			if !errors.As(err, &mistakes) {
				t.Fatalf("got %v, want mistakes", err)
			}
			for _, m := range mistakes {
				if len(m.String()) > 2000 {
					t.Fatalf("a mistake of %d bytes: %.200s", len(m.String()), m)
				}
			}
		})
	}
}

func repeated(start, piece string) string {
	return start + strings.Repeat(piece, (maxSize-1000)/len(piece))
}

func numbered(start, piece string) string {
	return start + pieces(piece, (maxSize-1000)/(len(piece)+5))
}

func listOf(start, piece string) string { return start + pieces(piece, maxItems) }

func pieces(piece string, count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, piece, i)
	}
	return b.String()
}
