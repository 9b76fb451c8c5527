package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

var storageFields = []field[Storage]{
	{name: "type", read: func(v value, s *Storage) { v.choose(&s.Type, choices{words: storageTypes}) }},
	{name: "path", read: func(v value, s *Storage) { v.filePath(&s.Path, "a directory such as /var/lib/smtpseal") }},
	{name: "url", read: func(v value, s *Storage) {
		v.secret(&s.URL, "a URL such as redis://redis.example.org:6379 or postgres://smtpseal@db.example.org/smtpseal", false)
	}},
	{name: "prefix", read: readPrefix},
	{name: "namespace", read: readNamespace},
	{name: "kubeconfig", read: func(v value, s *Storage) { s.Kubeconfig, _ = v.text("a file such as /etc/smtpseal/kubeconfig") }},
	{name: "encryption_key", read: readEncryptionKey},
}

var storageTypes = []string{"file", "redis", "postgres", "kubernetes"}

// storageKeys says which types have a use for a key. With another one it would
// be ignored, and an operator would take a wrong type for the right one.
var storageKeys = []struct {
	key   string
	types []string
}{
	{"path", []string{"file"}},
	{"url", []string{"redis", "postgres"}},
	{"namespace", []string{"kubernetes"}},
	{"kubeconfig", []string{"kubernetes"}},
}

var storageURLs = map[string]struct {
	schemes []string
	example string
}{
	"redis":    {[]string{"redis", "rediss", "unix"}, "redis://redis.example.org:6379, rediss:// for TLS, or unix:///run/redis.sock"},
	"postgres": {[]string{"postgres", "postgresql"}, "postgres://smtpseal@db.example.org/smtpseal"},
}

func readStorage(v value, d *document) {
	s, ok := mapping(v, storageFields, &d.Storage)
	if ok && !s.broken("type") {
		s.finishStorage(&d.Storage)
	}
}

// finishStorage checks what depends on the type.
func (s section) finishStorage(st *Storage) {
	for _, k := range storageKeys {
		if s.has(k.key) && st.given(k.key) && !slices.Contains(k.types, st.Type) {
			s.at(k.key).wrong("has no effect on a storage of type "+st.Type, "remove it, or write type: "+alternatives(k.types))
		}
	}
	if st.Type != "file" {
		st.Path = ""
	}
	if of, ok := storageURLs[st.Type]; ok {
		s.checkStorageURL(st, of.schemes, of.example)
	}
	switch {
	case st.Type == "kubernetes" && strings.Contains(st.Prefix, "_"):
		s.at("prefix").wrong(quote(st.Prefix)+" has an underscore, which no name in Kubernetes may have", "write a hyphen in its place")
	case st.Type == "postgres" && strings.HasPrefix(st.Prefix, "pg_"):
		s.at("prefix").wrong(quote(st.Prefix)+" begins with pg_, which PostgreSQL keeps for itself", "write another name, such as smtpseal")
	}
}

// given tells a key with a value from one that is written for show: a default
// path is no path.
func (st *Storage) given(key string) bool {
	switch key {
	case "path":
		return st.Path != ""
	case "url":
		return !st.URL.IsZero()
	case "namespace":
		return st.Namespace != ""
	}
	return st.Kubeconfig != ""
}

// checkStorageURL never repeats the URL: there is a password in most.
func (s section) checkStorageURL(st *Storage, schemes []string, example string) {
	at, remedy := s.at("url"), "write "+example
	switch {
	case s.broken("url"):
	case st.URL.IsZero():
		at.wrong("is missing, and a storage of type "+st.Type+" needs it", remedy+"; file:PATH or env:NAME if there is a password in it")
	case st.URL.literal() != "":
		u, err := url.Parse(st.URL.literal())
		switch {
		case err != nil:
			at.wrong("is no URL", remedy+"; "+escaped)
		case !isWhole(st.URL.literal()):
			at.wrong("has an @ or # where none can be", escaped)
		case !slices.Contains(schemes, u.Scheme):
			at.wrong("does not begin with "+alternatives(schemes)+", and ://", remedy)
		case u.Scheme == "unix" && u.Path == "":
			at.wrong("has no path", remedy)
		case u.Host == "" && (u.Scheme == "redis" || u.Scheme == "rediss"):
			at.wrong("has no host", remedy)
		}
	}
}

const escaped = "in a password, write what is no letter or digit as % and two hex digits"

// isWhole is false if a password with a /, ? or # in it has ended the host too
// early: its rest would be taken for something that others quote.
func isWhole(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	i := strings.IndexAny(rest, "/?#")
	return i < 0 || !strings.ContainsAny(rest[i:], "@#")
}

// readPrefix takes what is safe as a part of a Redis key, as the name of a
// schema and at the beginning of the name of a Kubernetes object.
func readPrefix(v value, s *Storage) {
	const remedy = "write a word of at most 40 lower-case letters, digits and hyphens, a letter first, such as smtpseal"
	text, ok := v.text("a word such as smtpseal")
	if ok && !isPrefix(text) {
		v.wrong(quote(text)+" is no prefix", remedy)
	}
	s.Prefix = text
}

func isPrefix(s string) bool {
	return s != "" && len(s) <= 40 && s[0] >= 'a' && s[0] <= 'z' && isLowerOrDigit(rune(s[len(s)-1])) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !isLowerOrDigit(r) && r != '-' && r != '_' })
}

func isLowerOrDigit(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }

// readNamespace reads a label as Kubernetes wants it (RFC 1123, lower case).
func readNamespace(v value, s *Storage) {
	text, ok := v.text("a namespace such as mail")
	if ok && text != "" && (!isHostname(text+".x") || strings.ContainsFunc(text, func(r rune) bool { return !isLowerOrDigit(r) && r != '-' })) {
		v.wrong(quote(text)+" is no namespace", "write lower-case letters, digits and hyphens, 63 at most")
	}
	s.Namespace = text
}

// leastKey is what 256 bits of a key take when each octet has eight of them.
const leastKey = 32

func readEncryptionKey(v value, s *Storage) {
	var key Secret
	if !v.secret(&key, "a key: 64 hex digits, as openssl rand -hex 32 makes them, or any text of at least 32 octets", false) {
		return
	}
	if n := len(key.literal()); n > 0 && n < leastKey {
		v.wrong(fmt.Sprintf("has %d octets", n), fmt.Sprintf("write at least %d, such as openssl rand -hex %d makes them", leastKey, leastKey))
	}
	s.EncryptionKey = key
}
