package main

import (
	"os"

	"gopkg.in/yaml.v3"
)

// place returns the line of one item of an outermost list in a configuration
// file that config has already found good, or 0. Mistakes in the files that a
// configuration names come up here only, after the lines are forgotten.
func place(file, list string, item int) int {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return 0
	}
	root := document.Content[0].Content // keys and values in turn
	for i := 0; i+1 < len(root); i += 2 {
		if root[i].Value == list && item < len(root[i+1].Content) {
			return root[i+1].Content[item].Line
		}
	}
	return 0
}
