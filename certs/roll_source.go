package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/caddyserver/certmagic"
)

// Roll returns the roll-over of a certificate's key. With several types of key
// for one name, keyType says which; empty is the only or the first one. The
// caller adds hosts, ports and the zone.
func (s *Source) Roll(name, keyType string) (*Roll, error) {
	m, err := s.rollable(name, keyType)
	if err != nil {
		return nil, err
	}
	return &Roll{
		Name: m.name, KeyType: m.kind.name, Storage: m.storage, Log: m.log,
		Current: func(ctx context.Context) (*x509.Certificate, error) {
			if err := m.reload(ctx); err != nil {
				return nil, err
			}
			if c := m.certificate(); c != nil {
				return c.Leaf, nil
			}
			return nil, errNoCertificate
		},
	}, nil
}

func (s *Source) rollable(name, keyType string) (*managed, error) {
	all, err := s.managedFor(name)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if keyType == "" || m.kind.name == keyType {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s has no certificate with a key of type %s", name, keyType)
}

// IssueWith obtains a new certificate for a key that the caller has, and keeps
// that key from then on. It waits for an attempt that is under way, also of
// another process.
func (s *Source) IssueWith(ctx context.Context, r *Roll, key crypto.Signer) error {
	m, err := s.rollable(r.Name, r.KeyType)
	if err != nil {
		return err
	}
	if s.options.ReadOnly {
		return errReadOnly
	}
	done, err := m.turn(ctx, m.limit)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	if err := m.reload(ctx); err != nil && !errors.Is(err, errBroken) {
		return fmt.Errorf("storage: %w", err)
	}
	switching := *m.config
	switching.ReusePrivateKeys, switching.KeySource = false, given{key}
	if err := m.order(ctx, &switching); err != nil {
		return err
	}
	if c := m.certificate(); c == nil || !hasKey(c.Leaf, key.Public()) {
		return errors.New("the new certificate is not in the storage")
	}
	return nil
}

// given is a source of keys that has one.
type given struct{ key crypto.Signer }

func (g given) GenerateKey() (crypto.PrivateKey, error) { return g.key, nil }

var _ certmagic.KeyGenerator = given{}
