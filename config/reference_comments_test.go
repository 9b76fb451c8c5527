package config

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// An exampleFile is config.example.yaml with what its comments say of each key.
type exampleFile struct {
	config  *Config
	root    *yaml.Node
	lines   []string
	general string            // what holds for all of it
	later   string            // what is not there yet
	meaning map[string]string // by path
	at      map[string]place  // by path, the first one
}

// A place is a key in a mapping.
type place struct {
	mapping *yaml.Node
	index   int
}

func newExample(t *testing.T, data []byte) *exampleFile {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("example", data)
	if err != nil {
		t.Fatal(err)
	}
	e := &exampleFile{config: c, root: document.Content[0], lines: strings.Split(string(data), "\n"),
		meaning: map[string]string{}, at: map[string]place{}}
	e.collect(e.root, "")
	_, e.general, _ = strings.Cut(commented(e.lines[:e.root.Line-1]), "\n\nDurations")
	e.general, _, _ = strings.Cut("Durations"+e.general, "\n\n")
	_, later, _ := strings.Cut(string(data), "# Not supported yet")
	e.later = commented(strings.Split(later, "\n")[2:])
	return e
}

// collect reads the comments of every key below n.
func (e *exampleFile) collect(n *yaml.Node, path string) {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if path == "backends." {
			name = "*"
		}
		said := e.comment(n.Content[i])
		if before := e.meaning[path+name]; before != "" && said != "" {
			said = before + "\n" + said
		}
		if said != "" {
			e.meaning[path+name] = said
		}
		if _, twice := e.at[path+name]; !twice {
			e.at[path+name] = place{n, i}
		}
		e.collect(n.Content[i+1], path+name+".")
	}
	for _, item := range n.Content {
		if n.Kind == yaml.SequenceNode {
			e.collect(item, strings.TrimSuffix(path, ".")+"[].")
		}
	}
}

// aside is where comments begin that belong to the key in front or above.
const aside = 20

// comment is what stands above a key, behind it, and below that.
func (e *exampleFile) comment(key *yaml.Node) string {
	last := key.Line // lines count from 1, so this is the one behind
	first := last - 1
	for first > 0 && isComment(e.lines[first-1]) && column(e.lines[first-1]) < aside {
		first--
	}
	above := commented(e.lines[first : last-1])
	behind := []string{trailing(e.lines[last-1])}
	for ; last < len(e.lines) && isComment(e.lines[last]) && column(e.lines[last]) >= aside; last++ {
		behind = append(behind, e.lines[last])
	}
	return strings.Trim(above+"\n"+commented(behind), "\n")
}

func isComment(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }
func column(line string) int     { return strings.Index(line, "#") }

// trailing is the comment behind a value. A # in the example's values has no
// blank in front.
func trailing(line string) string {
	if _, comment, found := strings.Cut(line, " # "); found {
		return "# " + comment
	}
	return ""
}

// commented takes off the signs of a comment, and joins its lines to
// paragraphs; an empty line parts those, and lines that are indented stay.
func commented(lines []string) string {
	var b strings.Builder
	joined := false
	for _, line := range lines {
		text := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "#"), " ")
		switch apart := strings.HasPrefix(text, " ") || text == ""; {
		case apart:
			b.WriteString("\n" + strings.TrimRight(text, " "))
			joined = false
		case joined:
			b.WriteString(" " + text)
		default:
			b.WriteString("\n" + text)
			joined = true
		}
	}
	return strings.Trim(b.String(), "\n")
}

// without is the file without one key.
func (e *exampleFile) without(at place) []byte {
	all := at.mapping.Content
	at.mapping.Content = append(append([]*yaml.Node{}, all[:at.index]...), all[at.index+2:]...)
	defer func() { at.mapping.Content = all }()
	var b bytes.Buffer
	if err := yaml.NewEncoder(&b).Encode(e.root); err != nil {
		panic(err) // it was decoded
	}
	return b.Bytes()
}

// prose is a comment as a part of a page.
func prose(comment string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(comment, "\n\n") {
		if i > 0 {
			b.WriteString("\n")
		}
		if strings.HasPrefix(paragraph, " ") {
			b.WriteString("```\n" + strings.TrimLeft(paragraph, "\n") + "\n```\n")
			continue
		}
		length := 0
		for _, word := range strings.Fields(escape(paragraph)) {
			if length += len(word) + 1; length > 120 {
				b.WriteString("\n")
				length = len(word) + 1
			} else if length > len(word)+1 {
				b.WriteString(" ")
			}
			b.WriteString(word)
		}
		b.WriteString("\n")
	}
	return b.String()
}

var columns = regexp.MustCompile(` {2,}`)

// cell is a comment in a table: what was aligned has colons.
func cell(comment string) string {
	var all []string
	for line := range strings.SplitSeq(comment, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, escape(columns.ReplaceAllString(line, ": ")))
		}
	}
	return strings.Join(all, "<br>")
}

// escape keeps Markdown from reading stars and bars; code has none.
func escape(text string) string {
	if strings.HasPrefix(text, "`") {
		return text
	}
	return strings.NewReplacer("*", `\*`, "|", `\|`, "<", "&lt;", " _", ` \_`).Replace(text)
}
