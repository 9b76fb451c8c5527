package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/config"
)

// A judge looks at what a good configuration names: files, secrets, programs.
// Nobody is asked anything, and nothing is made.
type judge struct {
	file     string // the configuration
	mistakes config.Mistakes
	warnings []string
}

const mendIt = "mend it, for run would not start"

// wrong adds what is wrong at a key.
func (j *judge) wrong(path, problem, remedy string) {
	j.mistakes = append(j.mistakes, config.Mistake{File: j.file, Line: place(j.file, path), Path: path, Problem: problem, Remedy: remedy})
}

// refused adds an error that run would have, if it is one. One that knows its own
// keys has them; others are of the given one.
func (j *judge) refused(path string, err error) {
	var told config.Mistakes
	switch {
	case err == nil:
	case errors.As(err, &told):
		for _, m := range told {
			j.wrong(m.Path, m.Problem, m.Remedy)
		}
	default:
		j.wrong(path, err.Error(), mendIt)
	}
}

// certificates loads what the configuration names, as run would, each file for
// itself so that one bad one does not hide the next. The internal CA and ACME are
// left alone: theirs would be made.
func (j *judge) certificates(ctx context.Context, c *config.Config) {
	heard := newCollector()
	log := zap.New(heard)
	for i, one := range c.Certificates {
		if one.Internal || one.ByACME() {
			continue
		}
		source, err := certs.Open(ctx, certs.Options{Entries: []certs.Entry{entry(one)}, Log: log})
		if err != nil { // beside others that are good run would start, and be loud
			j.wrong(fmt.Sprintf("certificates[%d]", i), err.Error(), "mend it, for it cannot be served")
			continue
		}
		source.Close()
	}
	var none certs.Source // policies need no certificate
	for i, l := range c.Listeners {
		_, err := none.TLSConfig(policy(c.TLS, l))
		j.refused(fmt.Sprintf("listeners[%d]", i), err)
	}
	j.warnings = append(j.warnings, *heard.said...)
}

// secrets resolves every secret, and reads what acme names.
func (j *judge) secrets(c *config.Config) {
	var url, key string
	j.refused("storage", resolve(c.Storage.URL, &url))
	j.refused("storage", resolve(c.Storage.EncryptionKey, &key))
	j.key(key)
	if c.ByACME() {
		a, err := acmeOptions(c.ACME, zap.NewNop())
		if err == nil {
			err = a.Check()
		}
		j.refused("acme", err)
	}
}

// key judges an encryption key that was kept elsewhere; config has done so with
// one that stands in the file.
func (j *judge) key(key string) {
	const least = 32 // octets, as storage demands
	_, err := hex.DecodeString(key)
	digits := err == nil || errors.Is(err, hex.ErrLength)
	switch {
	case key == "":
	case len(key) < least:
		j.wrong("storage.encryption_key", fmt.Sprintf("has %d octets where it is kept", len(key)),
			"keep at least 32 there: openssl rand -hex 32 makes a good one")
	case digits && len(key) < 2*least:
		j.warnings = append(j.warnings, fmt.Sprintf("storage.encryption_key: only %d hex digits, so it is taken for a text and not for a key. "+
			"If some were lost, restore them; openssl rand -hex 32 makes 64", len(key)))
	}
}

// storage looks at where the files would be, if it is there.
func (j *judge) storage(c *config.Config) {
	if c.Storage.Type != "file" || !keepsCertificates(c) {
		return
	}
	for path := c.Storage.Path; ; path = filepath.Dir(path) { // what is above it may be in the way, too
		is, err := os.Stat(path)
		switch {
		case err == nil && !is.IsDir():
			j.wrong("storage.path", path+" is no directory", "name another one, or move that file")
			return
		case err == nil || path == filepath.Dir(path):
			return
		}
	}
}

// programs looks for those that are run when something happens, which would else
// be missed no sooner than then.
func (j *judge) programs(c *config.Config) {
	j.program("acme.on_event", c.ACME.OnEvent.Command)
	j.program("acme.dns.command", c.ACME.DNS.Command)
}

func (j *judge) program(path string, command []string) {
	if len(command) == 0 {
		return
	}
	_, err := exec.LookPath(command[0])
	is, _ := os.Stat(command[0])
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		j.wrong(path, command[0]+" is no file", "install it, or name the program that is there")
	case is != nil && is.IsDir():
		j.wrong(path, command[0]+" is a directory", "name the program in it")
	case errors.Is(err, fs.ErrPermission):
		j.wrong(path, command[0]+" may not be run by this user", "chmod +x it, and let the user that smtpseal runs as reach it")
	default:
		j.wrong(path, err.Error(), "name a program that can be run")
	}
}
