package probe

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// docs/probe.md has a row for every id, and none for what there is not.
func TestEveryCheckIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, known []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9.-]+)`(?:, `([a-z0-9.-]+)`)? \\| (?:i|s|o)").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, row[1])
		if row[2] != "" {
			documented = append(documented, row[2])
		}
	}
	for _, c := range checks {
		known = append(known, c.id)
	}
	for _, list := range []*[]string{&documented, &known} {
		slices.Sort(*list)
		*list = slices.Compact(*list) // TLS begins in two places
	}
	if !slices.Equal(documented, known) {
		t.Errorf("documented %q\nknown      %q", documented, known)
	}
}
