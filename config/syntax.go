package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// maxSize bounds the file. What the YAML library and this package make of a
// file grows in step with it, since aliases are never followed; so this bounds
// their time and memory too.
const maxSize = 512 << 10

// root parses the file's only document and returns its outermost node, or nil
// after a mistake.
func (r *reader) root(data []byte) *yaml.Node {
	if len(data) > maxSize {
		r.mistake(0, "", fmt.Sprintf("is larger than %d bytes", maxSize), "split off what does not belong into a configuration")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if !r.readable(data) {
		return nil
	}
	lines := &lineReader{data: data}
	documents := yaml.NewDecoder(lines)
	first, err := decode(documents)
	if errors.Is(err, io.EOF) || err == nil && isEmpty(first) {
		r.mistake(1, "", "the file is empty", "write at least listeners, backends and certificates; config.example.yaml shows every key")
		return nil
	}
	if err != nil {
		r.syntax(lines, err)
		return nil
	}
	second, err := decode(documents)
	if err == nil {
		r.mistake(second.Line, "", "a second document begins", "remove the line ---, and keep one document in one file")
	} else if !errors.Is(err, io.EOF) {
		r.syntax(lines, err)
	}
	return first.Content[0]
}

// A lineReader hands out a line at a time, so that what it has handed out when
// the library gives up ends with the line at which it did.
type lineReader struct {
	data []byte
	next int
}

func (l *lineReader) Read(p []byte) (int, error) {
	if l.next == len(l.data) {
		return 0, io.EOF
	}
	line := l.data[l.next:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end+1]
	}
	n := copy(p, line)
	l.next += n
	return n, nil
}

// lineAt numbers the line that the byte at offset is in.
func (l *lineReader) lineAt(offset int) int {
	return 1 + bytes.Count(l.data[:max(offset, 0)], []byte("\n"))
}

// decode reads the next document as a tree: nothing is resolved or expanded,
// so that a file full of aliases costs no more than its length.
func decode(documents *yaml.Decoder) (*yaml.Node, error) {
	document := new(yaml.Node)
	if err := documents.Decode(document); err != nil {
		return nil, err
	}
	return document, nil
}

// isEmpty tells a document of nothing but a line --- or the word null.
func isEmpty(document *yaml.Node) bool {
	n := document.Content[0]
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// readable looks for what no YAML file may hold, because the library reports
// it without a line.
func (r *reader) readable(data []byte) bool {
	line := 1
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		switch {
		case c == utf8.RuneError && size == 1:
			r.mistake(line, "", fmt.Sprintf("byte 0x%02x is not UTF-8", data[0]), "save the file as UTF-8")
			return false
		case !allowed(c):
			r.mistake(line, "", fmt.Sprintf("has the character %U, which YAML does not allow", c), "remove it")
			return false
		case c == '\n':
			line++
		}
		data = data[size:]
	}
	return true
}

// allowed is YAML 1.2 section 5.1, less the byte order mark inside a file.
func allowed(c rune) bool {
	switch {
	case c == '\t', c == '\n', c == '\r', c == 0x85:
		return true
	case c < 0x20, c >= 0x7f && c < 0xa0, c == 0xfeff, c == 0xfffe, c == 0xffff:
		return false
	}
	return true
}

// syntax reports what the library could not parse. It says where only in its
// text, so this once text is all there is to go by.
func (r *reader) syntax(lines *lineReader, err error) {
	problem := strings.TrimPrefix(err.Error(), "yaml: ")
	if anchor, ok := strings.CutPrefix(problem, "unknown anchor '"); ok {
		alias := "*" + strings.TrimSuffix(anchor, "' referenced")
		line := lines.lineAt(bytes.LastIndex(lines.data[:lines.next], []byte(alias)))
		r.mistake(line, "", "refers to "+quote(alias)+", which is not defined", aliasRemedy)
		return
	}
	line := lines.lineAt(lines.next - 1)
	if rest, ok := strings.CutPrefix(problem, "line "); ok {
		number, text, _ := strings.Cut(rest, ": ")
		problem = text
		if n, err := strconv.Atoi(number); err == nil {
			line = correct(n, line, problem)
		}
	}
	r.mistake(line, "", "is not YAML: "+problem, syntaxRemedy(problem))
}

// correct chooses between the line that the library says and the one at which
// it gave up. What its scanner says is right. Its parser counts from zero, and
// for a mapping or list without brackets it names the first line of the whole.
func correct(said, reached int, problem string) int {
	switch {
	case strings.HasPrefix(problem, "did not find expected ','"):
		return said + 1
	case strings.HasPrefix(problem, "did not find expected key"),
		strings.HasPrefix(problem, "did not find expected '-'"),
		strings.HasPrefix(problem, "did not find expected node"),
		strings.HasPrefix(problem, "did not find expected <"),
		strings.HasPrefix(problem, "found undefined tag"):
		return reached
	}
	return said
}

func syntaxRemedy(problem string) string {
	switch {
	case strings.HasPrefix(problem, "found character that cannot start"):
		return "indent with spaces instead of tabs, and put quotes around a value that begins with @, ` or %"
	case strings.HasPrefix(problem, "mapping values are not allowed"):
		return "indent the keys of one mapping alike, and put quotes around a value that has \": \" in it"
	case strings.HasPrefix(problem, "could not find expected ':'"):
		return "write key: value, with a space behind the colon"
	case strings.HasPrefix(problem, "did not find expected ','"):
		return "close the bracket that is opened here"
	case strings.HasPrefix(problem, "did not find expected key"), strings.HasPrefix(problem, "did not find expected '-'"):
		return "indent this line like the others of its mapping or list"
	}
	return "look for a missing quote or bracket, or a wrong indent, near this line"
}
