package certs

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const leafLifetime = 90 * day

// openTimeout bounds what is read or made before the first client is served.
const openTimeout = time.Minute

// internal is the internal CA. Its leaves live as ACME's do.
type internal struct {
	authority *authority
	cache     *certmagic.Cache
	leaves    *issuance
}

// openInternal opens the internal CA on first use. The caller holds applying.
func (s *Source) openInternal(ctx context.Context) (*internal, error) {
	if s.internal != nil {
		return s.internal, nil
	}
	n, err := openInternal(ctx, s.options, s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.internal = n
	return n, nil
}

func openInternal(ctx context.Context, o Options, log *zap.Logger) (*internal, error) {
	if o.Storage == nil {
		return nil, errors.New("internal CA: no storage directory: set storage.path")
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	a, err := openAuthority(ctx, o.Storage)
	if err != nil {
		return nil, fmt.Errorf("internal CA in %s: %w: this user must be able to read and write the storage, and there must be room in it", where(o.Storage), err)
	}
	a.lifetime = o.LeafLifetime
	if a.lifetime <= 0 {
		a.lifetime = leafLifetime
	}
	log = log.With(zap.String("source", "internal"))
	if time.Until(a.root.NotAfter) < 365*day {
		log.Warn("the internal CA's root expires soon", zap.Time("not_after", a.root.NotAfter),
			zap.String("remedy", "remove "+rootFile+" and restart: the new root has the same key and name; give it to the clients"))
	}
	n := &internal{authority: a, cache: newCache(log)}
	config := newConfig(n.cache, o.Storage, keyTypes[0].generator, log)
	config.Issuers = []certmagic.Issuer{a}
	config.DisableStorageCheck = true // an order costs nothing here: its failure to be stored is soon enough
	n.leaves = &issuance{
		origin: "internal", kind: keyTypes[0], config: config, storage: o.Storage,
		poll: min(o.poll(), a.lifetime/40), alertBefore: 14 * day, slots: make(chan struct{}, mostAttempts), limit: time.Minute,
	}
	return n, nil
}

// where names a store without its secrets.
func where(storage certmagic.Storage) string {
	if s, ok := storage.(fmt.Stringer); ok {
		return s.String()
	}
	return "the storage"
}

func (n *internal) close() { n.cache.Stop() }

// RootPEM returns the internal CA's root, for the clients that shall trust it.
func (s *Source) RootPEM() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.internal == nil {
		return nil, errors.New("internal CA: not in use: give a certificate internal: true")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.internal.authority.root.Raw}), nil
}
