package storage

import (
	"slices"
	"strings"
)

// below makes of the keys of values what is to be listed below prefix: those
// values, and the folders in between; with !recursive only the next level.
func below(prefix string, keys []string, recursive bool) []string {
	found := map[string]none{}
	for _, key := range keys {
		rest, within := within(prefix, key)
		if !within {
			continue
		}
		for start := 0; ; {
			end := strings.IndexByte(rest[start:], '/')
			if end < 0 {
				found[key] = none{}
				break
			}
			found[key[:len(key)-len(rest)+start+end]] = none{}
			if !recursive {
				break
			}
			start += end + 1
		}
	}
	list := make([]string, 0, len(found))
	for key := range found {
		list = append(list, key)
	}
	slices.Sort(list)
	return list
}

// within returns what of key comes after the folder prefix. "ab" is not in "a".
func within(prefix, key string) (string, bool) {
	if prefix == "" {
		return key, true
	}
	return strings.CutPrefix(key, prefix+"/")
}
