package storage

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxValue bounds what is stored and what is read. The largest honest value
	// is a chain of some 20 KB; Kubernetes refuses Secrets above 1 MiB; and who can
	// write to the store must not be able to fill our memory.
	maxValue = 1 << 20
	// maxKey is below what file systems (4 KiB a path), PostgreSQL (a third of a
	// page in an index) and annotations allow.
	maxKey = 1024
	// maxKeys bounds one listing: 10,000 certificates make 30,000 keys. More is
	// a directory or prefix that something else uses, too.
	maxKeys = 200_000
	// maxCalls under way at once, because those to a file system that hangs
	// cannot be ended, only abandoned, and must not pile up.
	maxCalls = 64
	// callTime bounds every call but the waiting in Lock.
	callTime = 10 * time.Second
)

var (
	errTooLong = fmt.Errorf("is longer than %d octets, the most that a value may have: not written by smtpseal", maxValue)
	errTooMany = fmt.Errorf("has more than %d keys: give smtpseal a place of its own", maxKeys)
	errClosed  = errors.New("the storage is closed")
)

// checkKey accepts what every medium can keep and what cannot leave its place:
// components between slashes, none of them empty, dot or dot-dot. Folders that
// the file store has for itself are nobody's keys anywhere, so that values can
// be moved from one store to another.
func checkKey(key string) error {
	if key == "" {
		return errors.New("empty key")
	}
	if len(key) > maxKey {
		return fmt.Errorf("key of %d octets, at most %d", len(key), maxKey)
	}
	if !utf8.ValidString(key) || strings.ContainsFunc(key, unprintable) {
		return fmt.Errorf("key %q: only printable text without backslash", key)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("key %q: empty, dot or dot-dot between slashes", key)
		}
	}
	if first, _, _ := strings.Cut(key, "/"); first == locksFolder || first == draftsFolder {
		return fmt.Errorf("key %q: %s is not for values", key, first)
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == '\\' }
