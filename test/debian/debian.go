// Package debian finds the servers that test/install.sh has unpacked for the
// tests, without installing them.
package debian

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Root is the directory of what is unpacked, in the working tree that the test
// runs in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not in a working tree of this project")
		}
	}
	root := filepath.Join(dir, ".cache", "debian")
	if _, err := os.Stat(filepath.Join(root, ".complete")); err != nil {
		return "", errors.New("nothing is unpacked: run make test, or test/install.sh")
	}
	return root, nil
}

// LibraryPath is where programs find the libraries that this machine may lack,
// behind those that more names.
func LibraryPath(root string, more ...string) string {
	path := slices.Clone(more)
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		path = append(path, found...)
	}
	return strings.Join(path, ":")
}
