package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/dns"
	"smtpseal/certs/storage"
	"smtpseal/config"
)

// This file is wire.go's part for certificates: it opens the storage and the
// DNS provider that they need, and resolves the secrets for that.

// keepsCertificates reports whether a configuration has certificates that we
// obtain, or ticket keys to share: without them no storage is needed.
func keepsCertificates(c *config.Config) bool {
	for _, one := range c.Certificates {
		if one.CertFile == "" {
			return true
		}
	}
	return c.TLS.SessionTickets == "shared"
}

// openStorage opens the storage if it is needed; else the store is nil. Who
// opens it closes it.
func openStorage(ctx context.Context, c *config.Config, log *zap.Logger) (storage.Store, error) {
	if !keepsCertificates(c) {
		return nil, nil
	}
	o, err := storageOptions(c.Storage, log)
	if err != nil {
		return nil, err
	}
	return storage.Open(ctx, o)
}

func storageOptions(c config.Storage, log *zap.Logger) (storage.Options, error) {
	o := storage.Options{
		Type: c.Type, Path: c.Path, Prefix: c.Prefix,
		Namespace: c.Namespace, Kubeconfig: c.Kubeconfig, Log: log,
	}
	return o, errors.Join(resolve(c.URL, &o.URL), resolve(c.EncryptionKey, &o.EncryptionKey))
}

// resolve reads a secret, if one is given. The error names its key.
func resolve(from config.Secret, to *string) (err error) {
	if !from.IsZero() {
		*to, err = from.Resolve()
	}
	return err
}

// certOptions are what the certificates are made of. The store may be nil.
func certOptions(c *config.Config, store storage.Store, log *zap.Logger) (certs.Options, error) {
	o := certs.Options{Log: log, OnEvent: certs.Hook{Command: c.ACME.OnEvent.Command, URL: c.ACME.OnEvent.URL}}
	if store != nil {
		o.Storage = store
	}
	o.Entries = entries(c)
	if !c.ByACME() {
		return o, nil
	}
	var err error
	o.ACME, err = acmeOptions(c.ACME, log)
	return o, err
}

func entries(c *config.Config) (all []certs.Entry) {
	for _, one := range c.Certificates {
		all = append(all, entry(one))
	}
	return all
}

func entry(c config.Certificate) certs.Entry {
	return certs.Entry{Pair: certs.Pair{CertFile: c.CertFile, KeyFile: c.KeyFile}, Names: c.Names, Internal: c.Internal, KeyTypes: c.KeyTypes}
}

func acmeOptions(c config.ACME, log *zap.Logger) (*certs.ACME, error) {
	a := &certs.ACME{
		Email: c.Email, Challenges: c.Challenges, RotateKeys: !c.ReuseKeys,
		AlertBefore: time.Duration(c.AlertDays) * 24 * time.Hour,
		HTTPListen:  first(c.HTTPListen), TLSALPNListen: first(c.TLSALPNListen),
	}
	own := config.Directory{URL: c.Directory, TrustedRoots: c.TrustedRoots, Profile: c.Profile, EAB: c.EAB}
	for _, d := range append([]config.Directory{own}, c.Fallback...) {
		to := certs.Directory{URL: d.URL, Roots: d.TrustedRoots, Profile: d.Profile, EABKeyID: d.EAB.KeyID}
		if err := resolve(d.EAB.HMACKey, &to.EABKey); err != nil {
			return nil, err
		}
		a.Directories = append(a.Directories, to)
	}
	if c.DNS.Provider == "" {
		return a, nil
	}
	solver, err := dnsSolver(c.DNS, log)
	if err != nil {
		return nil, err
	}
	a.DNS = solver
	return a, nil
}

// first is the first port among addresses, for who must know one.
func first(addresses []config.Address) string {
	for _, a := range addresses {
		if a.Network == "tcp" {
			return a.Addr
		}
	}
	return ""
}

func dnsSolver(c config.DNS, log *zap.Logger) (*dns.Solver, error) {
	provider, err := dnsProvider(c, log)
	if err != nil {
		return nil, err
	}
	return dns.NewSolver(dns.Options{
		Provider: provider, Resolvers: c.Resolvers, TTL: c.TTL, Log: log,
		PropagationTimeout: c.PropagationTimeout, PropagationDelay: c.PropagationDelay,
	})
}

func dnsProvider(c config.DNS, log *zap.Logger) (dns.Provider, error) {
	settings := dns.Settings{}
	for key, secret := range c.Settings {
		text := ""
		if err := resolve(secret, &text); err != nil {
			return nil, err
		}
		settings[key] = text
	}
	if len(c.Command) > 0 {
		settings["command"] = dns.List(c.Command...)
	}
	provider, err := dns.Open(c.Provider, settings, log)
	if err != nil {
		return nil, fmt.Errorf("acme.dns: %w", err)
	}
	return provider, nil
}
