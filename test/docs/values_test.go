package docs

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"smtpseal/config"
)

// around are configurations in which a key can stand that is not just below
// others.
var around = map[string]string{
	"listeners":         `listeners: [{listen: ":465", tls: implicit, backend: mta, KEY}]`,
	"backends.*":        `backends: {mta: {servers: ["127.0.0.1:10025"], KEY}}`,
	"backends.*.health": `backends: {mta: {preset: postfix, servers: ["127.0.0.1:10025"], health: {KEY}}}`,
}

// A key with its value, such as proxy_protocol: v2, is one that config takes
// below some part of the file. Names that others have too (type, path) are
// passed over.
func TestNamedValuesAreTaken(t *testing.T) {
	pages := Pages(t, root)
	known, seen := keys(t, pages), 0
	for _, p := range pages {
		for _, code := range p.Code() {
			name, value, found := strings.Cut(code.Text, ": ")
			ours := strings.Contains(name, "_") || slices.Contains([]string{"preset", "balance", "xclient"}, name)
			if !found || !ours || strings.Contains(value, "…") || !isKey(known, name) || strings.Contains(name, ".") {
				continue
			}
			seen++
			if problem := refused(known, name, code.Text); problem != "" {
				t.Errorf("%s:%d: %s", code.Page, code.Line, problem)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d values are too few to be all", seen)
	}
}

var noValue = regexp.MustCompile(`is none of its values|belongs|is out of bounds|is no \w+|is no key here|not supported`)

// refused tells what is wrong with a key's value wherever the key may stand.
func refused(known map[string]bool, name, text string) (problem string) {
	for path := range known {
		if above, found := strings.CutSuffix(path, "."+name); found {
			if problem = refusedBelow(above, text); problem == "" {
				return ""
			}
		}
	}
	return problem
}

func refusedBelow(above, text string) string {
	if above == "certificates" || strings.HasPrefix(above, "acme.fallback") {
		return "" // of kinds that exclude each other
	}
	source, ready := around[above]
	if !ready {
		source = strings.ReplaceAll(above, ".", ": {") + ": {KEY}" + strings.Repeat("}", strings.Count(above, "."))
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(strings.Replace(source, "KEY", text, 1)), &document); err != nil {
		return err.Error()
	}
	complete(document.Content[0])
	file, err := yaml.Marshal(&document)
	if err != nil {
		return err.Error()
	}
	_, err = config.Parse("shown", file)
	var mistakes config.Mistakes
	errors.As(err, &mistakes)
	for _, m := range mistakes {
		if noValue.MatchString(m.Problem) {
			return m.Path + ": " + m.Problem
		}
	}
	return ""
}
