package config

import "strings"

// alternatives lists words as a sentence does.
func alternatives(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// nearest is the word that the misspelt one most likely stands for, or
// nothing: a wrong guess is worse than a list.
func nearest(misspelt string, words []string) string {
	if len(misspelt) > 40 { // no key is half as long; bounds the work
		return ""
	}
	spelling := strings.ReplaceAll(strings.ToLower(misspelt), "-", "_")
	best, least := "", 3
	for _, word := range words {
		// A third of a short word changed is another word.
		if d := distance(spelling, word); d < least && d*3 <= len(word) {
			best, least = word, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, change or swap with their
// neighbour (the restricted Damerau–Levenshtein distance).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
