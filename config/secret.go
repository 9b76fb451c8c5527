package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unique"

	"gopkg.in/yaml.v3"
)

// A Secret is a value that is written as itself, as file:PATH or as env:NAME.
// It keeps what was written and looks it up no sooner than Resolve, so that a
// changed file is seen and a configuration can be read where its secrets are
// not. The zero value is a secret that is not given. Secrets can be compared
// with ==: equal ones were written alike, in the same place.
//
// However it is printed, as text, as JSON or by %#v, it shows a reference as it
// is and anything else as asterisks.
type Secret struct {
	key string // where it is written, such as acme.eab.hmac_key
	// A handle, because fmt cannot call methods on unexported fields of other
	// types and would print a string that is in one; of this it prints an address.
	text  unique.Handle[string]
	plain bool // no secret, but a setting that may be kept elsewhere like one
}

// mask stands for a secret that is written as itself. As such it can be read
// again, so that what `smtpseal config` prints is a file, but not resolved.
const mask = "********"

// maxSecret bounds what is read of a file or variable: a key is far shorter,
// and file:/dev/zero ends.
const maxSecret = 64 << 10

func newSecret(key, text string, plain bool) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{key, unique.Make(text), plain}
}

// IsZero reports whether nothing is given.
func (s Secret) IsZero() bool { return s == Secret{} }

// written is what the file says.
func (s Secret) written() string {
	if s.IsZero() {
		return ""
	}
	return s.text.Value()
}

// literal is a value written as itself, or nothing: then there is nothing to
// check before it is resolved.
func (s Secret) literal() string {
	if text := s.written(); !isReference(text) && !s.masked() {
		return text
	}
	return ""
}

func (s Secret) masked() bool { return !s.plain && s.written() == mask }

func isReference(text string) bool {
	return strings.HasPrefix(text, "file:") || strings.HasPrefix(text, "env:")
}

// String is the reference, the asterisks, or nothing if nothing is given.
func (s Secret) String() string {
	if s.IsZero() || s.plain || isReference(s.written()) {
		return s.written()
	}
	return mask
}

// Format makes every verb print no more than String.
func (s Secret) Format(f fmt.State, verb rune) {
	fmt.Fprintf(f, fmt.FormatString(f, 's'), s.String())
}

// MarshalText is String, for JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Resolve returns the value itself, or nothing if nothing is given. It is read
// anew at each call: what a file holds, less one line end behind it, or a
// variable of the environment. An error is Mistakes; it names the key and the
// reference, and what to do, but never the value.
func (s Secret) Resolve() (string, error) {
	text := s.written()
	var problem, remedy string
	if path, ok := strings.CutPrefix(text, "file:"); ok && !s.IsZero() {
		text, problem, remedy = readSecret(path)
	} else if name, ok := strings.CutPrefix(text, "env:"); ok {
		text, problem, remedy = lookUpSecret(name)
	} else if s.masked() {
		problem, remedy = "is masked, as smtpseal config prints it", "write the secret itself in place of the asterisks, or file:PATH or env:NAME"
	}
	if problem != "" {
		if isReference(s.written()) {
			problem = quote(s.written()) + " " + problem
		}
		return "", Mistakes{{Path: s.key, Problem: problem, Remedy: remedy}}
	}
	return text, nil
}

func readSecret(path string) (text, problem, remedy string) {
	f, err := os.Open(path)
	if err != nil {
		problem, remedy = whyNoSecret(err)
		return "", problem, remedy
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		problem, remedy = whyNoSecret(err)
		return "", problem, remedy
	}
	return bounded(trimLineEnd(string(data)), "the file")
}

// trimLineEnd takes off the one line end that editors and echo leave behind a
// secret. A second one would be the secret's own.
func trimLineEnd(text string) string {
	if cut, ok := strings.CutSuffix(text, "\n"); ok {
		return strings.TrimSuffix(cut, "\r")
	}
	return text
}

func bounded(text, source string) (_, problem, remedy string) {
	switch {
	case text == "":
		return "", "is empty", "write the secret into " + source
	case len(text) > maxSecret:
		return "", fmt.Sprintf("is larger than %d bytes", maxSecret), "write nothing but the secret into " + source
	}
	return text, "", ""
}

// whyNoSecret does not repeat the system's own words: they have the path again.
func whyNoSecret(err error) (problem, remedy string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is no file", "write the secret into it, or name the file that has it"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user", "let the user that smtpseal runs as read it, and the directories above it"
	case errors.Is(err, syscall.EISDIR):
		return "is a directory", "name the file in it"
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return "cannot be read: " + err.Error(), "name a readable file"
}

func lookUpSecret(name string) (text, problem, remedy string) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return "", "is not set", "set the variable " + quote(name) + " where smtpseal is started (systemd: EnvironmentFile=; a container: env), or name another"
	}
	return bounded(text, "the variable")
}

// secret reads a Secret. None of its mistakes repeats the value, not even the
// number that it was taken for.
func (v value) secret(into *Secret, example string, plain bool) bool {
	remedy := "write " + example + ", or where it is kept: file:PATH or env:NAME"
	if !v.is(yaml.ScalarNode, "text", remedy) {
		return false
	}
	text := v.node.Value
	reference, _ := strings.CutPrefix(strings.TrimPrefix(text, "env:"), "file:")
	switch {
	case v.node.Tag != "!!str":
		v.wrong("is not text", "put quotes around it")
	case len(text) > maxSecret:
		v.wrong(fmt.Sprintf("is larger than %d bytes", maxSecret), remedy)
	case strings.ContainsFunc(text, notPrintable):
		v.wrong("has characters in it that cannot be printed", "keep it in a file, and write file:PATH")
	case isReference(text) && reference == "":
		v.wrong(quote(text)+" names nothing", "write file:PATH or env:NAME")
	case strings.HasPrefix(text, "env:") && strings.ContainsAny(reference, "= "):
		v.wrong(quote(text)+" names no variable", "write env: and the name of one, without a $")
	case strings.HasPrefix(text, "env:$"):
		v.wrong(quote(text)+" names no variable", "write env: and the name of one, without a $")
	default:
		*into = newSecret(v.path, text, plain)
		return true
	}
	return false
}

// isBase64 tells whether a text can be decoded, and has something in it.
func isBase64(text string, encoding *base64.Encoding) bool {
	data, err := encoding.DecodeString(text)
	return err == nil && len(data) > 0
}
