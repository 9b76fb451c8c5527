package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// This file is what an operator does to certificates, on a running Source or on
// one that was only opened: then another process that runs on the same storage
// follows within StoragePoll.

// Renew obtains new certificates for a name at once, due or not, and returns
// when they are stored and served. It waits for an attempt that is under way.
func (s *Source) Renew(ctx context.Context, name string) error {
	all, err := s.managedFor(name)
	if err != nil {
		return err
	}
	if s.options.ReadOnly {
		return errReadOnly
	}
	var failed []error
	for _, m := range all {
		err := m.attempt(ctx, true)
		m.tried(err)
		m.remember(ctx, err)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s (%s): %w", m.name, m.kind.name, err))
		}
	}
	s.mu.Lock()
	s.swapIndex() // Run may not be running
	s.mu.Unlock()
	return errors.Join(failed...)
}

// managedFor finds what we obtain for a name, one for each type of key.
func (s *Source) managedFor(name string) ([]*managed, error) {
	ascii, err := internalName(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*managed
	var others []string
	for _, k := range s.keepers {
		m, ours := k.(*managed)
		if ours && m.name == ascii {
			all = append(all, m)
		} else if ours {
			others = append(others, m.name)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no certificate that is obtained for %s; there are: %s", name, strings.Join(others, ", "))
	}
	return all, nil
}

// Served returns the certificate that a client who asks for a name gets, if it
// is for that name.
func (s *Source) Served(name string) (*tls.Certificate, error) {
	x := s.index.Load()
	if x == nil || len(x.any) == 0 {
		return nil, errNoCertificate
	}
	c := x.find(name, nil)[0]
	if err := c.Leaf.VerifyHostname(name); err != nil && !contains(leafNames(c.Leaf), name) {
		return nil, fmt.Errorf("no certificate for %s: %w", name, err)
	}
	return c, nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// EncodePEM returns a certificate's chain, leaf first, and its private key in
// PKCS #8.
func EncodePEM(c *tls.Certificate) (chain, key []byte, err error) {
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("private key: %w", err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// troubleKey is where the last failure for a name is kept, for those who ask
// while they run no certificates themselves.
func (m *managed) troubleKey() string {
	return "status/" + m.origin + "-" + m.kind.name + "/" + certmagic.StorageKeys.Safe(m.name) + ".txt"
}

// remember writes the last failure into the storage, or that there is none. It
// is worth a try, no more.
func (m *managed) remember(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
	defer cancel()
	if err == nil {
		m.storage.Delete(ctx, m.troubleKey())
		return
	}
	m.storage.Store(ctx, m.troubleKey(), []byte(err.Error()))
}

// Recall makes the failures that other processes had known to Certificates.
func (s *Source) Recall(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		m, ours := k.(*managed)
		if !ours {
			continue
		}
		if text, err := m.storage.Load(ctx, m.troubleKey()); err == nil {
			m.mu.Lock()
			m.state.lastError = string(text)
			m.mu.Unlock()
		}
	}
}

// Check reports what of it Open would refuse. It asks no CA and no storage.
func (a *ACME) Check() error {
	origin, err := openACME(Options{ACME: a, Storage: unasked{}}, zap.NewNop())
	if err == nil {
		origin.close()
	}
	return err
}

type unasked struct{ certmagic.Storage }
