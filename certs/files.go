package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
)

const (
	// maxFileSize bounds what is read of a PEM file: a log or a disk image
	// named by mistake must not fill the memory every ten seconds.
	maxFileSize = 1 << 20

	// maxReported bounds the bad contents that are remembered, so that a
	// writer gone wild costs log lines and not memory.
	maxReported = 64

	mendRemedy = "mend the files: they are looked at again and again"
	pemRemedy  = "the certificate file must hold the chain in PEM, the server's own certificate first, and the key file its key, in PEM and without a passphrase"
)

type digest [sha256.Size]byte

// A pairFile is the keeper of a pair of PEM files. It looks at their contents
// and not at their times: the symbolic links of a Kubernetes volume, a copy
// that preserves times and a network file system all change contents.
type pairFile struct {
	Pair
	log      *zap.Logger
	current  *tls.Certificate
	digest   digest // of the contents that current came from
	reported map[digest]bool
	result   Certificate // the counts and the last error
	warned   bool        // of a key that everybody can read
	expiry   expiry
}

// errUnderway means that the files changed while they were read.
var errUnderway = errors.New("the files change while they are read")

// openPair loads a pair for the first time. There is nothing to fall back on
// yet, so a bad pair is an error; a swap under way is waited for. Behind an error
// the keeper can be looked at all the same, until the pair is good. If others are
// served already, one that no client could verify is an error, too.
func openPair(p Pair, serving bool, log *zap.Logger) (*pairFile, error) {
	f := &pairFile{Pair: p, reported: map[digest]bool{},
		log: log.With(zap.String("cert_file", p.CertFile), zap.String("key_file", p.KeyFile))}
	if err := f.first(serving); err != nil {
		f.result.LastError, f.result.LastTry = err.Error(), time.Now().Round(0)
		return f, fmt.Errorf("certificate: %w", err)
	}
	return f, nil
}

func (f *pairFile) first(serving bool) error {
	raw, err := f.readWhole()
	if err != nil {
		return err
	}
	cert, err := f.parse(raw)
	if err == nil && serving {
		err = f.verifiable(cert.Leaf, time.Now())
	}
	if err != nil {
		return err
	}
	f.take(raw, cert)
	f.watch()
	return nil
}

// watch tells of an end that comes near.
func (f *pairFile) watch() {
	if f.current != nil {
		f.expiry.look(f.current.Leaf, f.log)
	}
}

func (f *pairFile) certificate() *tls.Certificate { return f.current }

func (f *pairFile) key() string { return pairKey(f.Pair) }

func (f *pairFile) status() Certificate {
	var c Certificate
	if f.current != nil {
		c = describe(f.current.Leaf)
	}
	c.Source, c.LastError, c.LastTry = f.CertFile, f.result.LastError, f.result.LastTry
	c.Loads, c.Rejected = f.result.Loads, f.result.Rejected
	switch {
	case f.current == nil:
		c.Problem = "not loaded: " + c.LastError
	case time.Now().After(c.NotAfter):
		c.Problem = "expired on " + date(c.NotAfter)
	}
	switch {
	case c.LastError != "":
		c.Remedy = mendRemedy
	case c.Problem != "", f.expiry.told > 0:
		c.Remedy = renewRemedy
	}
	return c
}

func (f *pairFile) look() bool {
	defer f.watch()
	raw, err := f.read()
	switch {
	case errors.Is(err, errUnderway):
		return false // the next look will find it finished
	case err != nil:
		f.reject(sha256.Sum256([]byte(err.Error())), err)
		return false
	case raw.digest() == f.digest:
		f.settle()
		return false
	}
	cert, err := f.parse(raw)
	if err == nil && f.current != nil {
		err = better(cert.Leaf, f.current.Leaf, time.Now())
	}
	if err != nil {
		f.reject(raw.digest(), err)
		return false
	}
	f.expiry.renewed = f.current != nil
	f.take(raw, cert)
	return true
}

func (f *pairFile) take(raw contents, cert *tls.Certificate) {
	f.current, f.digest = cert, raw.digest()
	f.result.Loads++
	f.settle()
	f.log.Info("certificate loaded", zap.Strings("names", leafNames(cert.Leaf)), zap.Time("not_after", cert.Leaf.NotAfter))
	if f.result.Loads == 1 && time.Now().Before(cert.Leaf.NotBefore) {
		f.log.Warn("certificate is not valid yet", zap.Time("not_before", cert.Leaf.NotBefore),
			zap.String("remedy", "check the clock of this machine"))
	}
	if raw.exposed && !f.warned {
		f.warned = true
		f.log.Warn("private key can be read by every user of this machine",
			zap.String("remedy", "chmod 640 it and give it the group of this service; in Kubernetes set defaultMode: 0400"))
	}
}

// settle forgets old troubles: should one come back, it is news again.
func (f *pairFile) settle() {
	f.result.LastError, f.result.LastTry = "", time.Time{}
	clear(f.reported)
}

// reject keeps the certificate in use, if there is one, and says why, once per
// bad contents: the same bytes are seen again every few seconds.
func (f *pairFile) reject(d digest, err error) {
	f.result.LastError, f.result.LastTry = err.Error(), time.Now().Round(0)
	if f.reported[d] {
		return
	}
	if len(f.reported) >= maxReported {
		clear(f.reported)
	}
	f.reported[d] = true
	f.result.Rejected++
	if f.current == nil {
		f.log.Error("certificate not loaded: clients who want it get another one", zap.Error(err),
			zap.String("remedy", mendRemedy))
		return
	}
	f.log.Error("certificate not replaced: the one in use stays", zap.Error(err),
		zap.Strings("names", leafNames(f.current.Leaf)), zap.Time("not_after", f.current.Leaf.NotAfter), zap.String("remedy", mendRemedy))
}

// contents is what one look found.
type contents struct {
	cert, key []byte
	exposed   bool // the key can be read by everybody
}

func (c contents) digest() digest {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d ", len(c.cert), len(c.key))
	h.Write(c.cert)
	h.Write(c.key)
	return digest(h.Sum(nil))
}

// read takes certificate, key and certificate again: if the second reading of
// the certificate differs, the key may belong to either.
func (f *pairFile) read() (c contents, err error) {
	if c.cert, _, err = readFile(f.CertFile); err != nil {
		return c, err
	}
	var mode os.FileMode
	if c.key, mode, err = readFile(f.KeyFile); err != nil {
		return c, err
	}
	c.exposed = mode&0o004 != 0
	again, _, err := readFile(f.CertFile)
	if err == nil && !bytes.Equal(c.cert, again) {
		err = errUnderway
	}
	return c, err
}

func (f *pairFile) parse(c contents) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w: %s", f.CertFile, f.KeyFile, err, pemRemedy)
	}
	if cert.Leaf == nil { // left out only under a GODEBUG setting
		if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", f.CertFile, err, pemRemedy)
		}
	}
	return &cert, nil
}

// readFile reads a PEM file of bounded size. Anything but a regular file is
// refused: opening a pipe would block the poll for ever.
func readFile(path string) ([]byte, os.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: check the path, and that this user may read it and its directories", err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a file: name a PEM file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: give this user the right to read it", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFileSize {
		return nil, 0, fmt.Errorf("%s: larger than %d KiB: name a PEM file", path, maxFileSize>>10)
	}
	return data, info.Mode(), nil
}
