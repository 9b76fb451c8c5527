package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// Load reads a file. Its error is Mistakes: all of them at once.
func Load(file string) (*Config, error) {
	data, mode, err := readFile(file)
	if err != nil {
		problem, remedy := whyUnread(err)
		return nil, Mistakes{{File: file, Problem: problem, Remedy: remedy}}
	}
	c, err := Parse(file, data)
	if err == nil {
		c.exposed = isOpen(mode) && len(c.literalSecrets()) > 0
	}
	return c, err
}

// isOpen reports whether more users than a file's owner may read it. Windows
// has no such bits, and Go makes them up.
func isOpen(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" }

// readFile reads no more than it takes to see that a file is too large, so
// that -c /dev/zero ends.
func readFile(file string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	of, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	return data, of.Mode(), err
}

func whyUnread(err error) (problem, remedy string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file", "write one after config.example.yaml, or name another with -c"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not read it", "let the user that smtpseal runs as read it, and the directories above it"
	case errors.Is(err, syscall.EISDIR):
		return "is a directory", "name the file in it"
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return "cannot be read: " + err.Error(), "name a readable file with -c"
}

// Parse reads what a file holds; its name is for the mistakes. Its error is
// Mistakes.
func Parse(file string, data []byte) (*Config, error) {
	r := &reader{file: file}
	d := r.document(data)
	if len(r.mistakes) > 0 {
		return nil, r.mistakes.inOrder()
	}
	return &d.Config, nil
}

// A document is a Config while it is read, and where its parts stand.
type document struct {
	Config
	listeners, backends, certificates []section // as in Config
	root, acme, tls, admin            section   // zero: not there, or no mapping
}

var documentFields = []field[document]{
	{name: "hostname", read: readHostname},
	{name: "listeners", read: readListeners},
	{name: "backends", read: readBackends},
	{name: "certificates", read: readCertificates},
	{name: "acme", read: readACME},
	{name: "storage", read: readStorage},
	{name: "tls", read: readTLS},
	{name: "limits", read: func(v value, d *document) { mapping(v, limitFields, &d.Limits) }},
	{name: "timeouts", read: func(v value, d *document) { mapping(v, timeoutFields, &d.Timeouts) }},
	{name: "admin", read: readAdmin},
	{name: "log", read: func(v value, d *document) { mapping(v, logFields, &d.Log) }},
}

func (r *reader) document(data []byte) *document {
	node := r.root(data)
	if node == nil {
		return nil
	}
	d := &document{Config: defaults()}
	s, ok := mapping(value{r: r, node: node}, documentFields, d)
	if !ok {
		return nil
	}
	s.require("listeners", `write at least one: a list with listen: ":465" and tls: implicit in it`)
	s.require("backends", "write at least one: a name, and below it preset and servers")
	s.require("certificates", "write at least one: a list with names, or with cert_file and key_file in it")
	d.root = s
	d.check()
	return d
}

func readHostname(v value, d *document) {
	text, ok := v.text("a host name such as mail.example.org")
	if ok && text != "" && !isHostname(text) {
		v.wrong(quote(text)+" is no host name", nameRemedy(text))
	}
	d.Hostname = strings.ToLower(text)
}

func readTLS(v value, d *document) {
	s, ok := mapping(v, tlsFields, &d.TLS)
	if ok {
		d.tls = s
	}
	least := d.TLS.MinVersion
	if len(d.TLS.CipherSuites) > 0 && (least == "1.3" || least == "" && d.TLS.Policy == "modern") {
		s.at("cipher_suites").wrong("has no effect on TLS 1.3, and no earlier version is allowed", "remove it, or write min_version: 1.2")
	}
}
