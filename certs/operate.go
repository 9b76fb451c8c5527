package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// This file is what an operator does to certificates, on a running Source or on
// one that was only opened: then another process that runs on the same storage
// follows within StoragePoll.

// CanRenew reports why Renew would not even try: a name that nothing is obtained
// for. Who renews several asks for all before the first order.
func (s *Source) CanRenew(name string) error {
	_, err := s.managedFor(name)
	if err == nil && s.options.ReadOnly {
		err = errReadOnly
	}
	return err
}

// Renew obtains new certificates for a name at once, due or not, and returns
// when they are stored and served. It waits for an attempt that is under way. A
// failure is logged where the Source runs; else who reads the log has the error
// already.
func (s *Source) Renew(ctx context.Context, name string) error {
	if err := s.CanRenew(name); err != nil {
		return err
	}
	all, err := s.managedFor(name)
	if err != nil {
		return err
	}
	var failed []error
	for _, m := range all {
		err := m.attempt(ctx, true)
		if s.ran.Load() {
			m.tried(err)
		} else {
			m.noted(err)
		}
		m.remember(ctx, err)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s (%s): %w", m.name, m.kind.name, err))
		}
	}
	s.refresh() // Run may not be running
	return errors.Join(failed...)
}

// managedFor finds what we obtain for a name, one for each type of key.
func (s *Source) managedFor(name string) ([]*managed, error) {
	ascii, err := internalName(name)
	if err != nil {
		return nil, err
	}
	var all []*managed
	var others []string
	for _, m := range s.managed() {
		if m.name == ascii {
			all = append(all, m)
		} else if !slices.Contains(others, m.name) {
			others = append(others, m.name)
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case len(others) == 0:
		return nil, fmt.Errorf("no certificate is obtained for %s, nor for any other name: all are files", name)
	}
	return nil, fmt.Errorf("no certificate is obtained for %s; there are: %s", name, strings.Join(others, ", "))
}

// managed are those that we obtain, in the order of the configuration.
func (s *Source) managed() (all []*managed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours {
			all = append(all, m)
		}
	}
	return all
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

// remember writes the last failure and its time into the storage, or that there
// is none. It is worth a try, no more.
func (m *managed) remember(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
	defer cancel()
	if err == nil {
		m.storage.Delete(ctx, m.troubleKey())
		return
	}
	m.storage.Store(ctx, m.troubleKey(), []byte(time.Now().UTC().Format(time.RFC3339)+" "+err.Error()))
}

// Recall makes the failures that other processes had known to Certificates.
func (s *Source) Recall(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for _, m := range s.managed() {
		if text, err := m.storage.Load(ctx, m.troubleKey()); err == nil {
			m.recall(string(text))
		}
	}
}

func (m *managed) recall(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.lastError = text
	first, rest, _ := strings.Cut(text, " ")
	if at, err := time.Parse(time.RFC3339, first); err == nil {
		m.state.lastTry, m.state.lastError = at, rest
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
