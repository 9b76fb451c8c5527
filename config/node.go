package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// A reader turns one file into a Config and collects what is wrong with it.
type reader struct {
	file     string
	mistakes Mistakes
}

func (r *reader) mistake(line int, path, problem, remedy string) {
	r.mistakes = append(r.mistakes, Mistake{File: r.file, Line: line, Path: path, Problem: problem, Remedy: remedy})
}

// A value is one node of the file, and the keys that lead to it.
type value struct {
	r    *reader
	node *yaml.Node
	path string
}

func (v value) wrong(problem, remedy string) {
	v.r.mistake(v.node.Line, v.path, problem, remedy)
}

// later refuses what a coming version will do: to ignore it would leave the
// operator believing that it is done.
func (v value) later(what, now string) {
	v.wrong(strings.TrimSpace(what+" is not supported yet"), now)
}

// aliasRemedy: aliases and merge keys would save an operator a few lines and
// cost the property that a line of the file is a line of the configuration.
const aliasRemedy = "write the value out here: anchors, aliases and merge keys are not read"

// is checks the node's kind; want and remedy are for the mistake.
func (v value) is(kind yaml.Kind, want, remedy string) bool {
	switch {
	case v.node.Kind == yaml.AliasNode:
		v.wrong("is the alias "+quote("*"+v.node.Value), aliasRemedy)
	case v.node.Style&yaml.TaggedStyle != 0:
		v.wrong("has the tag "+quote(v.node.Tag), "remove the tag; put quotes around what must be text")
	case v.isNull():
		v.wrong("has no value", remedy)
	case v.node.Kind != kind:
		v.wrong("is "+describe(v.node)+" where "+want+" belongs", remedy)
	default:
		return true
	}
	return false
}

func (v value) isNull() bool {
	return v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!null"
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number " + pathKey(n.Value)
	case n.Tag == "!!bool":
		return "the truth value " + n.Value
	case n.Tag == "!!timestamp":
		return "the date " + pathKey(n.Value)
	}
	return "the text " + quote(n.Value)
}

// maxItems bounds a list, because finding what is written twice in one takes
// the square of its length.
const maxItems = 10_000

// items calls each with every item of a list.
func (v value) items(remedy string, each func(value)) bool {
	if !v.is(yaml.SequenceNode, "a list", remedy) {
		return false
	}
	if n := len(v.node.Content); n > maxItems {
		v.wrong(fmt.Sprintf("has %d items", n), fmt.Sprintf("write %d at most", maxItems))
		return false
	}
	for i, node := range v.node.Content {
		each(value{v.r, node, fmt.Sprintf("%s[%d]", v.path, i)})
	}
	return true
}

// An entry is one key of a mapping and its value; both have the key's path.
type entry struct {
	key, value value
}

// entries returns what a mapping holds, each key once.
func (v value) entries(remedy string) ([]entry, bool) {
	if !v.is(yaml.MappingNode, "a mapping", remedy) {
		return nil, false
	}
	var all []entry
	lines := make(map[string]int)
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := value{v.r, v.node.Content[i], v.path}
		if !key.isKey() {
			continue
		}
		key.path = strings.TrimPrefix(v.path+"."+pathKey(key.node.Value), ".")
		if first, twice := lines[key.node.Value]; twice {
			key.wrong(fmt.Sprintf("is written twice, first in line %d", first), "keep one of the two")
			continue
		}
		lines[key.node.Value] = key.node.Line
		all = append(all, entry{key, value{v.r, v.node.Content[i+1], key.path}})
	}
	return all, true
}

func (v value) isKey() bool {
	switch {
	case v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!merge":
		v.wrong("has the merge key <<", aliasRemedy)
	case v.node.Kind != yaml.ScalarNode, v.node.Style&yaml.TaggedStyle != 0:
		v.wrong("has a key that is no plain word", "write key: value")
	default:
		return true
	}
	return false
}

// A field is one key of a mapping that becomes a T.
type field[T any] struct {
	name  string
	read  func(value, *T)
	later string // not empty: not supported yet; what to do now
}

// A section is a mapping after it was read: it knows where its keys stand.
type section struct {
	value
	written map[string]value
	failed  map[string]bool // keys with a mistake in what they have
}

// has tells a key that is written, rightly or not, from a missing one.
func (s section) has(key string) bool {
	_, ok := s.written[key]
	return ok
}

// broken says that a key is written wrongly, so that nothing should be
// concluded from it.
func (s section) broken(key string) bool { return s.failed[key] }

// at is a key's place; for a missing one, that of the mapping.
func (s section) at(key string) value {
	if v, ok := s.written[key]; ok {
		return v
	}
	return value{s.r, s.node, strings.TrimPrefix(s.path+"."+key, ".")}
}

// require reports a key that is not written.
func (s section) require(key, remedy string) {
	if !s.has(key) {
		s.at(key).wrong("is missing", remedy)
	}
}

// mapping reads v by its table of fields.
func mapping[T any](v value, fields []field[T], into *T) (section, bool) {
	s := section{v, make(map[string]value), make(map[string]bool)}
	all, ok := v.entries("write " + alternatives(names(fields)) + " below it")
	for _, e := range all {
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.name == e.key.node.Value })
		switch {
		case i < 0:
			s.unknown(e, names(fields))
		case fields[i].later != "":
			e.key.later("", fields[i].later)
		default:
			before := len(v.r.mistakes)
			fields[i].read(e.value, into)
			s.written[e.key.node.Value] = e.value
			s.failed[e.key.node.Value] = len(v.r.mistakes) > before
		}
	}
	return s, ok
}

// names are the keys that may be written today.
func names[T any](fields []field[T]) []string {
	var all []string
	for _, f := range fields {
		if f.later == "" {
			all = append(all, f.name)
		}
	}
	return all
}

// unknown reports a key that is none. A misspelt one counts as written, so that
// the one it stands for is not missed on top.
func (s section) unknown(e entry, known []string) {
	near := nearest(e.key.node.Value, known)
	if near == "" {
		e.key.wrong("is no key here", "write one of "+strings.Join(known, ", "))
		return
	}
	e.key.wrong("is no key here", "did you mean `"+near+"`?")
	if !s.has(near) {
		s.written[near], s.failed[near] = e.value, true
	}
}
