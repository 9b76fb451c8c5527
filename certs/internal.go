package certs

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const leafLifetime = 90 * day

// openTimeout bounds what is read or made before the first client is served.
const openTimeout = time.Minute

// internal is the internal CA. Its leaves live as ACME's do.
type internal struct {
	authority *authority // nil: it cannot be read, and nothing is to be made
	cache     *certmagic.Cache
	leaves    *issuance
}

func openInternal(ctx context.Context, o Options, log *zap.Logger) (*internal, error) {
	if o.Storage == nil {
		return nil, errors.New("internal CA: no storage directory: set storage.path")
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if o.ReadOnly {
		return lookAtInternal(ctx, o, log), nil
	}
	a, err := openAuthority(ctx, o.Storage)
	if err != nil {
		return nil, fmt.Errorf("internal CA in %s: %w: this user must be able to read and write the storage, and there must be room in it", where(o.Storage), err)
	}
	return newInternal(a, a, o, log), nil
}

// lookAtInternal makes no root.
func lookAtInternal(ctx context.Context, o Options, log *zap.Logger) *internal {
	a, err := loadAuthority(ctx, o.Storage)
	if err == nil {
		return newInternal(a, a, o, log)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("there is no root yet: `smtpseal run` makes it")
	}
	n := newInternal(&authority{}, noAuthority{}, o, log)
	n.authority, n.leaves.noCA = nil, fmt.Errorf("internal CA in %s: %w", where(o.Storage), err)
	return n
}

// noAuthority has issued nothing, and issues nothing.
type noAuthority struct{}

func (noAuthority) IssuerKey() string { return internalFolder + "none" }

func (noAuthority) Issue(context.Context, *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return nil, errReadOnly
}

func newInternal(a *authority, issuer certmagic.Issuer, o Options, log *zap.Logger) *internal {
	a.lifetime = o.LeafLifetime
	if a.lifetime <= 0 {
		a.lifetime = leafLifetime
	}
	log = log.With(zap.String("source", "internal"))
	if a.root != nil && time.Until(a.root.NotAfter) < 365*day {
		log.Warn("the internal CA's root expires soon", zap.Time("not_after", a.root.NotAfter),
			zap.String("remedy", "remove "+rootFile+" and restart: the new root has the same key and name; give it to the clients"))
	}
	n := &internal{authority: a, cache: newCache(log)}
	config := newConfig(n.cache, o.Storage, keyTypes[0].generator, log)
	config.Issuers = []certmagic.Issuer{issuer}
	config.DisableStorageCheck = true // an order costs nothing here: its failure to be stored is soon enough
	n.leaves = &issuance{
		origin: "internal", kind: keyTypes[0], config: config, storage: o.Storage,
		poll: min(o.poll(), a.lifetime/40), alertBefore: 14 * day, slots: make(chan struct{}, mostAttempts), limit: time.Minute,
	}
	return n
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
	if s.internal.authority == nil {
		return nil, s.internal.leaves.noCA
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.internal.authority.root.Raw}), nil
}
