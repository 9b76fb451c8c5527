package smtpseal_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows are all imports that a package of ours may have of another
// (docs/design.md). A new arrow is a decision, so it is made here.
var arrows = map[string][]string{
	"smtpseal":                  {}, // this test
	"smtpseal/admin":            {},
	"smtpseal/config":           {},
	"smtpseal/certs":            {},
	"smtpseal/certs/dns":        {},
	"smtpseal/certs/storage":    {},
	"smtpseal/proxy":            {"smtpseal/proxy/smtp", "smtpseal/proxy/backend"},
	"smtpseal/proxy/smtp":       {},
	"smtpseal/proxy/backend":    {},
	"smtpseal/probe":            {},
	"smtpseal/deploy/container": {}, // makes the image
	"smtpseal/deploy/release":   {}, // makes archives
}

// anywhere are the packages that may import any of ours: commands wire
// everything together, tests look at everything. Nothing may import them.
var anywhere = []string{"smtpseal/cmd/", "smtpseal/test/"}

// reach are packages that one of ours must not stand on, however deep below.
var reach = map[string][]string{
	"smtpseal/proxy/smtp":    {"net", "os", "time", "syscall", "bufio", "context", "fmt"},
	"smtpseal/proxy/backend": {"go.uber.org/zap"},
	"smtpseal/config":        {"go.uber.org/zap", "github.com/caddyserver/certmagic"},
	"smtpseal/proxy":         {"github.com/caddyserver/certmagic", "gopkg.in/yaml.v3", "github.com/spf13/cobra"},
	"smtpseal/probe":         {"go.uber.org/zap", "github.com/caddyserver/certmagic", "gopkg.in/yaml.v3", "github.com/spf13/cobra"},
	"smtpseal/certs":         {"github.com/pires/go-proxyproto", "gopkg.in/yaml.v3", "github.com/spf13/cobra"},
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestImportGraph(t *testing.T) {
	for _, pkg := range goList(t, "./...") {
		dir := goList(t, "-f", "{{.Dir}}", pkg)[0]
		if _, err := os.ReadDir(dir); err != nil { // tells the test cache what this depends on
			t.Error(err)
		}
		if within(anywhere, pkg) {
			continue
		}
		allowed, known := arrows[pkg]
		if !known {
			t.Errorf("%s has no place in the graph", pkg)
		}
		for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, pkg) {
			if strings.HasPrefix(imported, "smtpseal/") && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
			if pkg == "smtpseal/proxy/smtp" && imported == "io" { // which bytes stands on
				t.Errorf("%s does I/O", pkg)
			}
		}
	}
}

func within(trees []string, pkg string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return strings.HasPrefix(pkg, tree) })
}

// What a package stands on counts, too: the grammar knows no clock and no file.
func TestImportReach(t *testing.T) {
	for pkg, forbidden := range reach {
		for _, dep := range goList(t, "-deps", pkg) {
			if slices.Contains(forbidden, dep) {
				t.Errorf("%s stands on %s", pkg, dep)
			}
		}
	}
}
