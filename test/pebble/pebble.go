// Package pebble runs a certificate authority for tests: Let's Encrypt's Pebble
// in this process, behind HTTPS on a loopback address, with faults that are
// switched on and off while it runs.
//
// Every CA has roots of its own, both for its endpoint and for what it signs,
// so that a client which trusts the wrong one fails as it would outside. It
// validates at one HTTP and one TLS port for all names, which its own DNS
// server sends to 127.0.0.1 (see DNS).
//
// An order that names no profile gets a random one when there are several:
// Pebble means it so. One goroutine of Pebble, which waits for validations,
// outlives a CA; it cannot be ended.
package pebble

import (
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"smtpseal/test/loopback"
)

// Options is what a CA is like. The zero value is a CA with one profile,
// certificates of 90 days, and free ports.
type Options struct {
	Listen            string                   // of the HTTPS endpoint; empty: a free port of 127.0.0.1
	HTTPPort, TLSPort int                      // where it validates; 0: a free one, see HTTPAddr and TLSAddr
	DNS               string                   // host:port (TCP) of the resolver for validation; empty: its own, see CA.DNS
	Validity          time.Duration            // of certificates, in whole seconds; 0: 90 days
	Profiles          map[string]time.Duration // name to validity, instead of the one profile "default"
	EAB               map[string]string        // key id to MAC key (base64url); not empty: new accounts must have one
	NonceReject       int                      // per cent of good nonces that are refused
	Log               io.Writer                // Pebble's own log; nil: nowhere
}

// A CA is a running Pebble. Its methods may be called at once from many
// goroutines.
type CA struct {
	// DNS is the resolver that it validates with, unless Options named
	// another; then it is nil.
	DNS *DNS

	options  Options
	store    *db.MemoryStore
	issuer   *ca.CAImpl
	identity *identity
	handler  http.Handler
	dir      string // of the files with roots
	faults   faults
	hook     atomic.Pointer[http.Handler]

	mu       sync.Mutex // guards what follows
	addr     string
	endpoint *endpoint // nil: down
	closed   bool

	// Pebble writes some fields of an order without a lock, always within a
	// request, so who looks at orders keeps requests out.
	requests sync.RWMutex
	ledger   ledger
}

// Start runs a CA until the test ends.
func Start(t testing.TB, o Options) *CA {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatalf("pebble: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("pebble: %v", err)
		}
	})
	return c
}

// Open is Start for programs. The caller owes a Close.
func Open(o Options) (*CA, error) {
	c := &CA{options: o}
	if err := c.open(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *CA) open() (err error) {
	for _, port := range []*int{&c.options.HTTPPort, &c.options.TLSPort} {
		if err := choosePort(port); err != nil {
			return err
		}
	}
	if c.options.DNS == "" {
		if c.DNS, err = ListenDNS(); err != nil {
			return fmt.Errorf("dns: %w", err)
		}
		c.options.DNS = c.DNS.Addr()
	}
	if c.addr = c.options.Listen; c.addr == "" {
		if c.addr, err = loopback.Free("127.0.0.1"); err != nil {
			return err
		}
	}
	if c.identity, err = newIdentity(c.addr); err != nil {
		return err
	}
	if err := c.pebble(); err != nil {
		return err
	}
	if err := c.writeRoots(); err != nil {
		return err
	}
	return c.Up()
}

func choosePort(port *int) error {
	if *port != 0 {
		return nil
	}
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		return err
	}
	_, text, err := net.SplitHostPort(addr)
	if err == nil {
		*port, err = strconv.Atoi(text)
	}
	return err
}

// pebble puts Pebble together as its command does.
func (c *CA) pebble() error {
	// Pebble has no other way to be told. The values are the same for every
	// CA, so that several may start at once; the nonces are refused by us.
	for name, value := range map[string]string{
		"PEBBLE_VA_NOSLEEP":      "1",
		"PEBBLE_VA_ALWAYS_VALID": "0",
		"PEBBLE_AUTHZREUSE":      "0", // or some orders need no validation
		"PEBBLE_WFE_NONCEREJECT": "0",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	out := c.options.Log
	if out == nil {
		out = io.Discard
	}
	logger := log.New(out, "pebble ", log.LstdFlags|log.Lmicroseconds)
	c.store = db.NewMemoryStore()
	for id, key := range c.options.EAB {
		if err := c.store.AddExternalAccountKeyByID(id, key); err != nil {
			return fmt.Errorf("eab %s: %w", id, err)
		}
	}
	c.issuer = ca.New(logger, c.store, "", "ecdsa", 0, 1, c.options.profiles())
	validation := va.New(logger, c.options.HTTPPort, c.options.TLSPort, false, c.options.DNS, c.store)
	front := wfe.New(logger, c.store, validation, c.issuer, []string{"pebble.test"}, false, len(c.options.EAB) > 0, 0, 0)
	c.handler = c.middleware(front.Handler())
	return nil
}

func (o Options) profiles() map[string]ca.Profile {
	lives := o.Profiles
	if len(lives) == 0 {
		lives = map[string]time.Duration{"default": o.Validity}
	}
	profiles := map[string]ca.Profile{}
	for name, life := range lives {
		profiles[name] = ca.Profile{Description: "for tests", ValidityPeriod: uint64(life / time.Second)}
	}
	return profiles
}

func (c *CA) writeRoots() (err error) {
	if c.dir, err = os.MkdirTemp("", "pebble"); err != nil {
		return err
	}
	if err := os.WriteFile(c.RootsFile(), c.identity.root, 0o644); err != nil {
		return err
	}
	return os.WriteFile(c.IssuerFile(), c.IssuerPEM(), 0o644)
}

// DirectoryURL is where ACME starts: https://127.0.0.1:PORT/dir.
func (c *CA) DirectoryURL() string { return "https://" + c.addr + wfe.DirectoryPath }

// Roots has the root of the HTTPS endpoint, not of what the CA signs.
func (c *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.identity.root)
	return pool
}

// RootsFile names a PEM file of Roots, as acme.trusted_roots wants it.
func (c *CA) RootsFile() string { return filepath.Join(c.dir, "roots.pem") }

// IssuerPEM is the root that the CA signs below, for those who verify.
func (c *CA) IssuerPEM() []byte { return c.issuer.GetRootCert(0).PEM() }

// IssuerFile names a file with IssuerPEM.
func (c *CA) IssuerFile() string { return filepath.Join(c.dir, "issuer.pem") }

// IssuerRoots has IssuerPEM.
func (c *CA) IssuerRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.IssuerPEM())
	return pool
}

// HTTPAddr is where the CA looks for HTTP-01, on 127.0.0.1.
func (c *CA) HTTPAddr() string { return local(c.options.HTTPPort) }

// TLSAddr is where the CA looks for TLS-ALPN-01, on 127.0.0.1.
func (c *CA) TLSAddr() string { return local(c.options.TLSPort) }

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Close ends the CA and deletes its files. It may be called more than once.
func (c *CA) Close() error {
	err := c.Down()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	if c.DNS != nil {
		c.DNS.Close()
	}
	if c.dir != "" {
		if removed := os.RemoveAll(c.dir); err == nil {
			err = removed
		}
	}
	return err
}
