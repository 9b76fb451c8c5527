package docs

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"smtpseal/config"
)

// keys are the paths of every key, of the reference, which a test of config
// keeps. Names of the user's choice are *, and items of lists have no index.
func keys(t *testing.T, pages []Page) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	row := regexp.MustCompile("^\\| `([a-z_.*\\[\\]]+)` \\|(?: `([a-z_]+)` \\|)?")
	at := slices.IndexFunc(pages, func(p Page) bool { return p.Path == "docs/configuration.md" })
	if at < 0 {
		t.Fatal("there is no reference")
	}
	providers := config.DNSProviders()
	for _, line := range pages[at].Prose {
		if found := row.FindStringSubmatch(line.Text); found != nil && providers[found[1]] == nil {
			path := strings.ReplaceAll(found[1], "[]", "")
			all[path] = true
			for above := path; strings.Contains(above, "."); {
				above = above[:strings.LastIndexByte(above, '.')]
				all[above] = true
			}
		}
	}
	for _, settings := range providers {
		for _, name := range settings {
			all["acme.dns."+name] = true
		}
	}
	if len(all) < 80 {
		t.Fatalf("%d keys are too few to be all", len(all))
	}
	return all
}

// normal is a path as keys has it.
func normal(path string) string {
	path = regexp.MustCompile(`\[[0-9]*\]`).ReplaceAllString(path, "")
	return regexp.MustCompile(`^backends\.[^.]+`).ReplaceAllString(path, "backends.*")
}

// isKey takes a path, or the end of one.
func isKey(known map[string]bool, path string) bool {
	path = normal(path)
	for k := range known {
		if k == path || strings.HasSuffix(k, "."+path) {
			return true
		}
	}
	return false
}

var (
	dotted = regexp.MustCompile(`^[a-z_]+(\[[0-9]*\])?(\.([a-z0-9_-]+|\*)(\[[0-9]*\])?)+$`)
	// endings are those of files, which look like keys.
	endings = []string{"crt", "key", "pem", "md", "go", "yaml", "json", "sh", "cf", "mc", "sock", "conf", "service", "socket", "local", "org"}
)

// Keys that are named with what they are below are there.
func TestNamedKeysAreThere(t *testing.T) {
	pages := Pages(t, root)
	known, seen := keys(t, pages), 0
	parents := map[string]bool{}
	for k := range known {
		above := strings.Split(k, ".")
		for _, name := range above[:len(above)-1] {
			parents[name] = true
		}
	}
	for _, p := range pages {
		for _, code := range p.Code() {
			path, _, _ := strings.Cut(code.Text, ":")
			first, _, _ := strings.Cut(regexp.MustCompile(`\[.*?\]`).ReplaceAllString(path, ""), ".")
			if !dotted.MatchString(path) || !parents[first] || slices.Contains(endings, path[strings.LastIndexByte(path, '.')+1:]) {
				continue
			}
			seen++
			if !isKey(known, path) {
				t.Errorf("%s:%d: there is no key %s", code.Page, code.Line, path)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d keys are too few to be all", seen)
	}
}

// Configurations that are shown are good ones, and so are parts of one when the
// rest is there.
func TestShownConfigurationsAreGood(t *testing.T) {
	pages := Pages(t, root)
	known, seen := keys(t, pages), 0
	for _, p := range pages {
		for _, text := range append(p.Code(), p.Blocks...) {
			var document yaml.Node
			if text.Language != "" && text.Language != "yaml" || yaml.Unmarshal([]byte(text.Text), &document) != nil ||
				document.Kind == 0 || document.Content[0].Kind != yaml.MappingNode || !isConfiguration(known, document.Content[0]) {
				continue
			}
			seen++
			if problem := judge(known, document.Content[0]); problem != "" {
				t.Errorf("%s:%d: %s\n%s", text.Page, text.Line, problem, text.Text)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d configurations are too few to be all", seen)
	}
}

// isConfiguration tells a mapping with keys that only the top has, and values
// of the kind that they have there.
func isConfiguration(known map[string]bool, n *yaml.Node) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if name := n.Content[i].Value; !known[name] || strings.Contains(name, ".") || name != "hostname" && n.Content[i+1].Kind == yaml.ScalarNode {
			return false
		}
	}
	return len(n.Content) > 0
}

// judge asks config itself; what is cut short by … is only held against the keys.
func judge(known map[string]bool, n *yaml.Node) string {
	if problem, whole := walk(known, n, ""); problem != "" || !whole {
		return problem
	}
	complete(n)
	text, err := yaml.Marshal(n)
	if err != nil {
		return err.Error()
	}
	if _, err := config.Parse("shown", text); err != nil {
		return err.Error()
	}
	return ""
}

func walk(known map[string]bool, n *yaml.Node, path string) (problem string, whole bool) {
	whole = true
	for i := 0; i < len(n.Content); i++ {
		child, below := n.Content[i], path
		if n.Kind == yaml.MappingNode {
			if child.Value == "…" {
				whole = false
				i++
				continue
			}
			below = normal(strings.TrimPrefix(path+"."+child.Value, "."))
			i++
			child = n.Content[i]
			if !known[below] {
				return "there is no key " + below, false
			}
		}
		if child.Kind == yaml.ScalarNode && strings.Contains(child.Value, "…") {
			whole = false
		}
		p, w := walk(known, child, below)
		if p != "" {
			return p, false
		}
		whole = whole && w
	}
	return "", whole
}

// complete adds what a configuration must have and a part of one has not.
func complete(n *yaml.Node) {
	have := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		have[n.Content[i].Value] = n.Content[i+1]
	}
	add := func(name, text string) {
		if have[name] == nil {
			var document yaml.Node
			if err := yaml.Unmarshal([]byte(text), &document); err != nil {
				panic(err) // it is written here
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, document.Content[0])
		}
	}
	backend := "mta"
	if b := have["backends"]; b != nil {
		backend = b.Content[0].Value
	}
	add("listeners", `[{listen: ":465", tls: implicit, backend: `+backend+`}]`)
	add("backends", `{mta: {preset: postfix, servers: ["127.0.0.1:10025"]}, mta-mx: {preset: postfix, servers: ["127.0.0.1:10026"]}}`)
	if l := have["listeners"]; l != nil && have["backends"] == nil {
		for _, entry := range l.Content {
			if !slices.ContainsFunc(entry.Content, func(k *yaml.Node) bool { return k.Value == "backend" }) {
				entry.Content = append(entry.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "backend"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "mta"})
			}
		}
	}
	add("certificates", `[{names: [mail.internal], internal: true}]`)
}
