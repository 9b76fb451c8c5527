package main

import (
	"os"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// place returns the line of a key of a configuration file that config has
// already found good, by its path as in mistakes: storage.path,
// certificates[1]. What is not there has the line of what it would be in, or 0.
// Mistakes in what a configuration names come up here only, after the lines are
// forgotten.
func place(file, path string) (line int) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return 0
	}
	at := document.Content[0]
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		key, value := below(at, step)
		if value == nil {
			return line
		}
		line, at = key.Line, value
	}
	return line
}

// below is one step of a path: the place that it is written at, and what is
// there.
func below(in *yaml.Node, step string) (key, value *yaml.Node) {
	if in.Kind == yaml.AliasNode {
		in = in.Alias
	}
	if item, err := strconv.Atoi(step); err == nil && in.Kind == yaml.SequenceNode && item < len(in.Content) {
		return in.Content[item], in.Content[item]
	}
	for i := 0; in.Kind == yaml.MappingNode && i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value == step {
			return in.Content[i], in.Content[i+1]
		}
	}
	return nil, nil
}
