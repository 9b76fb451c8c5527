package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var links = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Links within the repository lead to files and headings that there are.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := Pages(t, root)
	byPath := map[string]Page{}
	for _, p := range pages {
		byPath[p.Path] = p
	}
	seen := 0
	for _, p := range pages {
		for _, line := range p.Prose {
			for _, found := range links.FindAllStringSubmatch(inline.ReplaceAllString(line.Text, "code"), -1) {
				to, err := url.Parse(found[1])
				if err != nil {
					t.Errorf("%s:%d: %v", p.Path, line.Line, err)
					continue
				}
				if to.IsAbs() {
					continue
				}
				seen++
				target := p.Path
				if to.Path != "" {
					target = path.Join(path.Dir(p.Path), to.Path)
				}
				if _, err := os.Stat(filepath.Join(root, target)); err != nil || strings.HasPrefix(to.Path, "/") {
					t.Errorf("%s:%d: %s leads to nothing", p.Path, line.Line, found[1])
				} else if to.Fragment != "" && !byPath[target].Anchors()[to.Fragment] {
					t.Errorf("%s:%d: %s has no heading #%s", p.Path, line.Line, target, to.Fragment)
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("%d links are too few to be all", seen)
	}
}
