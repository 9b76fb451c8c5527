package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// onDisk says why the files of a pair in use cannot replace it, if they hold
// anything else. It takes nothing and counts nothing: that is for the poll. A
// pair that was bad from the start has nothing to lose, and was told of then.
func (s *Source) onDisk(f *pairFile) error {
	s.mu.Lock()
	current, digest := f.current, f.digest // before the files are read: what a poll takes meanwhile is newer than this
	s.mu.Unlock()
	if current == nil {
		return nil
	}
	raw, err := f.readWhole()
	if err != nil || raw.digest() == digest {
		return err
	}
	cert, err := f.parse(raw)
	if err != nil {
		return err
	}
	if err := better(cert.Leaf, current.Leaf, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", f.CertFile, err)
	}
	return nil
}

// readWhole waits for a swap under way, half a second at most: whoever asked
// for a reload waits for it.
func (f *pairFile) readWhole() (contents, error) {
	raw, err := f.read()
	for try := 0; errors.Is(err, errUnderway) && try < 10; try++ {
		time.Sleep(50 * time.Millisecond)
		raw, err = f.read()
	}
	if errors.Is(err, errUnderway) {
		err = fmt.Errorf("%s: %w: try again when they are written", f.CertFile, err)
	}
	return raw, err
}

// verifiable refuses a certificate by its dates.
func (f *pairFile) verifiable(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%s: %w", f.CertFile, errExpired(leaf))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("%s: certificate on disk is valid from %s on: reload then, or check the clock of this machine", f.CertFile, date(leaf.NotBefore))
	}
	return nil
}
