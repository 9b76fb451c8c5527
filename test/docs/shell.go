package docs

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Commands are the command lines of smtpseal in a page's blocks: of shells,
// units, and lists in YAML. The name of the program is left off.
func (p Page) Commands() (all []Command) {
	for _, block := range p.Blocks {
		switch block.Language {
		case "sh", "bash", "shell", "console", "":
			for i, line := range unfold(block.Text) {
				for _, words := range split(line) {
					if args, ours := called(words); ours {
						all = append(all, Command{block.Page, block.Line + i, args})
					}
				}
			}
		case "yaml":
			all = append(all, listed(block)...)
		}
		for _, exec := range execs.FindAllStringSubmatch(block.Text, -1) {
			if args, ours := called(strings.Fields(exec[1])); ours {
				all = append(all, Command{block.Page, block.Line, args})
			}
		}
	}
	return all
}

// A Command is the arguments that smtpseal is called with.
type Command struct {
	Page string
	Line int
	Args []string
}

var execs = regexp.MustCompile(`(?m)^Exec\w+=(.*)$`)

// unfold joins lines that a backslash continues; a line keeps its index.
func unfold(text string) []string {
	lines := strings.Split(text, "\n")
	for i := len(lines) - 2; i >= 0; i-- {
		if before, folded := strings.CutSuffix(lines[i], `\`); folded {
			lines[i], lines[i+1] = before+lines[i+1], ""
		}
	}
	return lines
}

// split parts a line into simple commands and those into words, as a shell
// would as far as documentation goes: quotes, comments, pipes, redirections.
func split(line string) (commands [][]string) {
	var words []string
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == '#' && !begun:
			return append(commands, words)
		case strings.ContainsRune("|;&()<>", c):
			end()
			commands, words = append(commands, words), nil
		case c == ' ' || c == '\t':
			end()
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	end()
	return append(commands, words)
}

// before are words that another command may stand behind.
var before = []string{"$", "sudo", "-u", "-n", "exec", "time", "nohup", "--"}

// called says whether a command is one of smtpseal, possibly by another.
func called(words []string) (args []string, ours bool) {
	for i, word := range words {
		switch {
		case path.Base(word) == "smtpseal" && (i == 0 || words[i-1] != "-u"):
			return words[i+1:], true
		case slices.Contains(before, word), i > 0 && words[i-1] == "-u", strings.Contains(word, "=") && i == 0:
		default:
			return nil, false
		}
	}
	return nil, false
}

// listed are the lists in YAML that begin with smtpseal: hooks and probes.
func listed(block Text) (all []Command) {
	var document yaml.Node
	if yaml.Unmarshal([]byte(block.Text), &document) != nil {
		return nil // what is no YAML is for another test
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && path.Base(n.Content[0].Value) == "smtpseal" {
			c := Command{Page: block.Page, Line: block.Line + n.Line - 1}
			for _, arg := range n.Content[1:] {
				c.Args = append(c.Args, arg.Value)
			}
			all = append(all, c)
		}
		for _, below := range n.Content {
			walk(below)
		}
	}
	walk(&document)
	return all
}
