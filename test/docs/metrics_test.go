package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// metrics are those of admin's golden file.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(root + "/admin/testdata/busy.metrics")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (smtpseal_\w+) (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		all[line[1]] = true
		if line[2] == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				all[line[1]+part] = true
			}
		}
	}
	return all
}

// Whoever renames a metric breaks the alerts of others: it is done everywhere.
func TestNamedMetricsAreThere(t *testing.T) {
	known, named := metrics(t), regexp.MustCompile(`\bsmtpseal_[a-z_]*[a-z]\b`)
	seen := 0
	for _, p := range Pages(t, root) {
		for _, text := range append(p.Code(), p.Blocks...) {
			for _, name := range named.FindAllString(text.Text, -1) {
				seen++
				if !known[name] {
					t.Errorf("%s:%d: there is no %s", text.Page, text.Line, strings.TrimSpace(name))
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d metrics are too few to be all", seen)
	}
}
