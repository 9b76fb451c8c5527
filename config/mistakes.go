package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Mistake is one thing that is wrong with a configuration, and what to
// write instead. What it repeats of the file is cut short and escaped, so that
// printing it is safe whatever the file holds.
type Mistake struct {
	File    string `json:"file"`    // as Load was given it; empty: the command line
	Line    int    `json:"line"`    // 0: the file as a whole
	Path    string `json:"path"`    // such as listeners[1].tls_policy; empty: the file, or its outermost mapping
	Problem string `json:"problem"` // what is wrong
	Remedy  string `json:"remedy"`  // what to do now
}

// String is one line: FILE:LINE: PATH: PROBLEM; REMEDY.
func (m Mistake) String() string {
	var b strings.Builder
	if m.File != "" {
		b.WriteString(m.File)
		if m.Line > 0 {
			fmt.Fprintf(&b, ":%d", m.Line)
		}
		b.WriteString(": ")
	}
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Problem + "; " + m.Remedy)
	return b.String()
}

// Mistakes are all that is wrong with a configuration, in the order of its
// lines. As an error they are one line each.
type Mistakes []Mistake

func (ms Mistakes) Error() string {
	lines := make([]string, len(ms))
	for i, m := range ms {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// inOrder puts the mistakes in the order of the file, those of one line in the
// order in which they were found. What was found twice is said once.
func (ms Mistakes) inOrder() Mistakes {
	slices.SortStableFunc(ms, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
	said := make(map[Mistake]bool)
	return slices.DeleteFunc(ms, func(m Mistake) bool {
		before := said[m]
		said[m] = true
		return before
	})
}

// maxQuoted bounds what a mistake repeats of the file: a value may be
// half a megabyte long, and a path is repeated for everything below it.
const maxQuoted = 60

// quote shows a piece of the file.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(strings.ToValidUTF8(s[:maxQuoted], "")) + "…"
	}
	return strconv.Quote(s)
}

// pathKey is a key as it stands in a path: bare if it is a plain word.
func pathKey(key string) string {
	if key == "" || len(key) > maxQuoted || strings.ContainsFunc(key, notInWord) {
		return quote(key)
	}
	return key
}

func notInWord(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
}
