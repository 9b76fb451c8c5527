// Package docs reads the pages of the documentation, so that tests can hold
// what stands there against the program and the repository.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A Page is one Markdown file.
type Page struct {
	Path   string // from the repository's root, with slashes
	Prose  []Text // lines without those of blocks
	Blocks []Text // between fences
}

// A Text is something that a page says.
type Text struct {
	Page     string
	Line     int    // from 1
	Language string // of a block, as the fence says it
	Text     string
}

// Pages are all of the repository at root. What tests make or unpack is none.
func Pages(t testing.TB, root string) (pages []Page) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if slices.Contains([]string{".git", ".cache", "bin", "dist", "node_modules", "testdata"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		pages = append(pages, parse(filepath.ToSlash(relative), string(text)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("%d pages below %s are too few to be all", len(pages), root)
	}
	return pages
}

var fence = regexp.MustCompile("^ *(```+|~~~+) *(\\w*)")

func parse(path, text string) Page {
	page := Page{Path: path}
	closing := ""
	for i, line := range strings.Split(text, "\n") {
		mark := fence.FindStringSubmatch(line)
		switch {
		case closing == "" && mark != nil:
			closing = mark[1]
			page.Blocks = append(page.Blocks, Text{path, i + 2, mark[2], ""})
		case closing == "":
			page.Prose = append(page.Prose, Text{path, i + 1, "", line})
		case strings.TrimSpace(line) == closing:
			closing = ""
		default:
			page.Blocks[len(page.Blocks)-1].Text += line + "\n"
		}
	}
	return page
}

var inline = regexp.MustCompile("(``?)((?:[^`])+)(``?)")

// Code is what stands in code type in a page's prose.
func (p Page) Code() (all []Text) {
	for _, line := range p.Prose {
		for _, found := range inline.FindAllStringSubmatch(line.Text, -1) {
			all = append(all, Text{p.Path, line.Line, "", found[2]})
		}
	}
	return all
}

var (
	markup  = regexp.MustCompile("`|\\*\\*|\\]\\([^)]*\\)|\\[")
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// Anchors are those that a page has for its headings, as GitHub makes them.
func (p Page) Anchors() map[string]bool {
	all := map[string]bool{}
	for _, line := range p.Prose {
		level := len(line.Text) - len(strings.TrimLeft(line.Text, "#"))
		if level == 0 || level > 6 || !strings.HasPrefix(line.Text[level:], " ") {
			continue
		}
		heading := strings.ToLower(strings.TrimSpace(markup.ReplaceAllString(line.Text[level:], "")))
		anchor := strings.ReplaceAll(dropped.ReplaceAllString(heading, ""), " ", "-")
		all[anchor] = true
	}
	return all
}
