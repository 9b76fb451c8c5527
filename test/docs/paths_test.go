package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the repository has on top, by which a path is known to be one of its.
func folders(t *testing.T) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "dist" {
			all = append(all, e.Name())
		}
	}
	return all
}

var paths = regexp.MustCompile(`^(?:\./)?([a-z]+)/[\w./*-]*$`)

// Files of the repository that are named are there, and targets of make.
func TestNamedFilesAreThere(t *testing.T) {
	folders, seen := folders(t), 0
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Pages(t, root) {
		texts := append(p.Code(), p.Blocks...)
		for _, text := range texts {
			for _, target := range regexp.MustCompile(`(?m)^make ([a-z]+)`).FindAllStringSubmatch(text.Text, -1) {
				if !strings.Contains(string(makefile), "\n"+target[1]+":") {
					t.Errorf("%s:%d: make has no target %s", text.Page, text.Line, target[1])
				}
			}
			for _, word := range strings.FieldsFunc(text.Text, func(r rune) bool { return strings.ContainsRune(" \t\n'\"`,;()[]{}=", r) }) {
				found := paths.FindStringSubmatch(word)
				if found == nil || !slices.Contains(folders, found[1]) {
					continue
				}
				seen++
				pattern := strings.TrimSuffix(strings.TrimSuffix(word, "/..."), "/")
				if all, err := filepath.Glob(filepath.Join(root, pattern)); err != nil || len(all) == 0 {
					t.Errorf("%s:%d: there is no %s", text.Page, text.Line, word)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d paths are too few to be all", seen)
	}
}
