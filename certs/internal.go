package certs

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	leafLifetime = 90 * day

	// renewalWindow is the part of its life that a leaf has left when it is
	// renewed.
	renewalWindow = 1.0 / 3

	// manageTimeout bounds the wait for a lock that another process holds;
	// certmagic takes it away from a dead one after ten seconds.
	manageTimeout = time.Minute
)

// internal is the internal CA and the machinery that renews its leaves.
type internal struct {
	authority *authority
	cache     *certmagic.Cache
	config    *certmagic.Config
	log       *zap.Logger
	stop      sync.Once // certmagic's Stop panics the second time

	mu     sync.Mutex
	failed map[string]string // why the last attempt for a name failed
}

func openInternal(ctx context.Context, o Options, log *zap.Logger) (*internal, error) {
	if o.Storage == "" {
		return nil, errors.New("internal CA: no storage directory: set storage.path")
	}
	storage := &certmagic.FileStorage{Path: o.Storage}
	ctx, cancel := context.WithTimeout(ctx, manageTimeout)
	defer cancel()
	a, err := openAuthority(ctx, storage)
	if err != nil {
		return nil, fmt.Errorf("internal CA in %s: %w: this user must be able to read and write that directory, and its disk must have room", o.Storage, err)
	}
	a.lifetime = o.LeafLifetime
	if a.lifetime <= 0 {
		a.lifetime = leafLifetime
	}
	n := &internal{authority: a, log: log.With(zap.String("issuer", "internal")), failed: map[string]string{}}
	if time.Until(a.root.NotAfter) < 365*day {
		n.log.Warn("the internal CA's root expires soon", zap.Time("not_after", a.root.NotAfter),
			zap.String("remedy", "remove "+rootFile+" and restart: the new root has the same key and name; give it to the clients"))
	}
	n.wire(storage)
	return n, nil
}

// wire sets certmagic up for this CA alone: its own cache, and no field left
// for New to fill from certmagic's package variables.
func (n *internal) wire(storage certmagic.Storage) {
	log := quiet(n.log).Named("certmagic")
	n.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return n.config, nil },
		// certmagic renews whatever has less than five checks left to live, so
		// short lives need short checks.
		RenewCheckInterval: min(10*time.Minute, n.authority.lifetime/40),
		OCSPCheckInterval:  day,
		Logger:             log,
	})
	config := certmagic.New(n.cache, certmagic.Config{
		RenewalWindowRatio: renewalWindow,
		OnEvent:            n.onEvent,
		ShouldEmitFunc:     func(event string) bool { return event != "tls_get_certificate" },
		DefaultServerName:  "none.invalid", // the index chooses, certmagic is never asked
		FallbackServerName: "none.invalid",
		Issuers:            []certmagic.Issuer{n.authority},
		IssuerPolicy:       certmagic.UseFirstIssuer,
		ReusePrivateKeys:   true, // pins and TLSA records stay true over renewals
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		// A responder that accepts and is silent would block loading for ever;
		// our leaves name none.
		OCSP:       certmagic.OCSPConfig{DisableStapling: true},
		Storage:    storage,
		DisableARI: true,
		Logger:     log,
	})
	// The fields whose zero value New takes for unset.
	config.OnDemand, config.MustStaple, config.LocalCache = nil, false, nil
	n.config = config
}

// quiet drops certmagic's tales of locks taken and released, unless they are
// asked for.
func quiet(log *zap.Logger) *zap.Logger {
	if log.Core().Enabled(zapcore.DebugLevel) || !log.Core().Enabled(zapcore.WarnLevel) {
		return log
	}
	return log.WithOptions(zap.IncreaseLevel(zapcore.WarnLevel))
}

func (n *internal) close() { n.stop.Do(n.cache.Stop) }

// onEvent is certmagic's only word on why a renewal failed.
func (n *internal) onEvent(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch event {
	case "cert_failed":
		n.failed[name] = fmt.Sprint(data["error"])
	case "cert_obtained":
		delete(n.failed, name)
	}
	return nil
}

// leaves returns a keeper for each name, its leaf loaded or made.
func (n *internal) leaves(ctx context.Context, names []string) ([]keeper, error) {
	if len(names) == 0 {
		return nil, errors.New("internal certificate: no names")
	}
	var all []keeper
	for _, name := range names {
		name, err := internalName(name)
		if err != nil {
			return nil, fmt.Errorf("internal certificate: %w", err)
		}
		l := &leaf{internal: n, name: name, log: n.log.With(zap.String("name", name)), expiry: expiry{renewed: true}}
		if err := l.manage(ctx); err != nil {
			return nil, fmt.Errorf("internal certificate: %w", err)
		}
		all = append(all, l)
	}
	return all, nil
}

// A leaf is the keeper of one certificate of the internal CA. certmagic renews
// it and has no event for the moment when the new one is in its cache, so the
// cache is polled.
type leaf struct {
	*internal
	name   string
	log    *zap.Logger
	held   *tls.Certificate
	loads  int
	expiry expiry
}

// manage hands the name to certmagic: the leaf is loaded from the storage,
// renewed if that is due, or made. A renewal that fails is no reason not to
// serve what is there.
func (l *leaf) manage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, manageTimeout)
	defer cancel()
	err := l.config.ManageSync(ctx, []string{l.name})
	l.look()
	if l.held == nil {
		if err == nil {
			err = fmt.Errorf("%s: not in certmagic's cache", l.name)
		}
		return err
	}
	if err != nil {
		l.log.Error("certificate not renewed: the one in storage is served", zap.Error(err))
	}
	return nil
}

func (l *leaf) certificate() *tls.Certificate { return l.held }

func (l *leaf) look() bool {
	changed := false
	if c := l.newest(); c != nil && (l.held == nil || !c.Leaf.Equal(l.held.Leaf)) {
		l.held = c
		l.loads++
		changed = true
		l.log.Info("certificate loaded", zap.Time("not_after", c.Leaf.NotAfter))
	}
	if l.held != nil {
		l.expiry.look(l.held.Leaf, l.log)
	}
	return changed
}

// newest asks certmagic's cache. It also answers with wildcards that match the
// name, which are not its own certificate.
func (l *leaf) newest() *tls.Certificate {
	var newest *tls.Certificate
	for _, c := range l.cache.AllMatchingCertificates(l.name) {
		if c.Names[0] == l.name && (newest == nil || c.Leaf.NotBefore.After(newest.Leaf.NotBefore)) {
			newest = &c.Certificate
		}
	}
	return newest
}

func (l *leaf) status() Certificate {
	c := describe(l.held.Leaf)
	c.Source, c.Loads = "internal", l.loads
	l.mu.Lock()
	defer l.mu.Unlock()
	c.LastError = l.failed[l.name]
	// A storage that cannot be written ends an attempt before there is an event.
	late := c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 4)
	if c.LastError == "" && time.Now().After(late) {
		c.LastError = "renewal is overdue: see the log, and whether the storage can be written"
	}
	return c
}

// RootPEM returns the internal CA's root, for the clients that shall trust it.
func (s *Source) RootPEM() ([]byte, error) {
	if s.internal == nil {
		return nil, errors.New("internal CA: not in use: give a certificate internal: true")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.internal.authority.root.Raw}), nil
}
