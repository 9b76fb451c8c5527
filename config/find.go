package config

import (
	"regexp"
	"strings"
)

// FindAdmin reads of a file no more than where admin listens, for who wants to
// speak to the process that runs: whatever else is wrong with the file does not
// matter then. Of one that is not YAML the lines of admin are searched. What
// cannot be found is taken for the default.
func FindAdmin(file string) []Address {
	byDefault := []Address{AdminDefault}
	data, _, err := readFile(file)
	if err != nil {
		return byDefault
	}
	r := &reader{file: file}
	d := r.document(data)
	for _, m := range r.mistakes {
		if m.Path == "admin" || strings.HasPrefix(m.Path, "admin.") {
			d = nil
		}
	}
	if d != nil {
		return d.Admin.Listen
	}
	found := adminLine.FindSubmatch(data)
	if found == nil {
		return byDefault
	}
	r = &reader{file: file}
	a, ok := r.flag("admin.listen", string(found[1])).address("127.0.0.1:9465", listen)
	if !ok {
		return byDefault
	}
	return []Address{a}
}

// adminLine finds the first address behind admin: and listen:, on one line or
// below it, with nothing but lines of admin's between the two.
var adminLine = regexp.MustCompile(`(?m)^admin:[ \t]*(?:\{[^}\n]*?|(?:#.*)?\n(?:[ \t]+.*\n|[ \t]*\n)*?[ \t]+)listen:[ \t]*\[?[ \t]*["']?([^"',\s\]}]+)`)
