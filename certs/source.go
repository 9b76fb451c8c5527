// Package certs keeps certificates fresh and hands them to listeners as one
// *tls.Config each.
//
// A Source holds every certificate of the configuration, whatever its origin:
// pairs of PEM files, which are polled, and leaves of an internal CA, which
// certmagic renews. The certificates meet in one immutable index that is
// swapped whole at each change, so that a handshake reads it without a lock
// and a renewal touches no session. What holds:
//
//   - a certificate in use is replaced only by a better one: nothing that a
//     half-finished, wrong or stale write leaves on the disk is ever served;
//   - every client is served, with a server name or without one: by exact
//     name, then by wildcard, then the first certificate;
//   - a client that offers ALPN protocols without smtp is refused (a browser
//     steered here by an attacker, CVE-2021-3618), one that offers none is not.
//
// certmagic manages one name per certificate, so an internal entry with
// several names gets a leaf for each; the choice by server name hides it.
//
// The package does not fetch or staple OCSP responses, does not watch files
// by inotify (polling also sees changes on network file systems and behind
// symbolic links), and does not reload client CA files.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// A Pair names a certificate chain (PEM, leaf first) and its private key (PEM,
// not encrypted). Both may be in the same file.
type Pair struct{ CertFile, KeyFile string }

// A Kind says where a certificate comes from.
type Kind int

const (
	File     Kind = iota // one of Options.Files
	Internal             // one of Options.Internal
)

// Options is what a Source keeps and how.
type Options struct {
	Files    []Pair
	Internal [][]string // DNS names (also *.example.org) and IP addresses, for the internal CA

	// Order says from which list each entry of the configuration comes, since
	// the first certificate serves those who name none. Empty: first all of
	// Files, then all of Internal.
	Order []Kind

	Storage      string        // the directory for the internal CA; not needed without Internal
	Log          *zap.Logger   // nil: silent
	PollInterval time.Duration // how often the files are looked at; 0: 10 s
	LeafLifetime time.Duration // of the internal CA's leaves; 0: 90 days
}

// A Source serves the newest good certificate of every entry. Its methods may
// be called at once from many goroutines.
type Source struct {
	log      *zap.Logger
	interval time.Duration
	index    atomic.Pointer[index]
	internal *internal // nil: no internal CA
	ran      atomic.Bool

	mu      sync.Mutex // one look at a time; guards what the keepers hold
	keepers []keeper   // in the order of the configuration
}

// A keeper holds one certificate and notices when there is a better one. All
// calls are made under Source.mu. Certificates by ACME will be a third one.
type keeper interface {
	look() bool                    // takes a better certificate if there is one; true: it did
	certificate() *tls.Certificate // the one in use, or nil
	status() Certificate
}

// Open loads every file and makes what the internal CA lacks: its root on
// first use, its leaves. Any certificate that cannot be had is an error that
// says what to do; an expired one is served, loudly, since most clients on
// port 25 do not look. The caller owes a Run or a Close.
func Open(ctx context.Context, o Options) (*Source, error) {
	s := &Source{log: o.Log, interval: o.PollInterval}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.interval <= 0 {
		s.interval = 10 * time.Second
	}
	if err := s.open(ctx, o); err != nil {
		s.Close()
		return nil, err
	}
	s.swapIndex()
	return s, nil
}

func (s *Source) open(ctx context.Context, o Options) error {
	order, err := o.order()
	if err != nil {
		return err
	}
	if len(o.Internal) > 0 {
		if s.internal, err = openInternal(ctx, o, s.log); err != nil {
			return err
		}
	}
	files, names := o.Files, o.Internal
	for _, kind := range order {
		if kind == File {
			f, err := openPair(files[0], s.log)
			if err != nil {
				return err
			}
			s.keepers, files = append(s.keepers, f), files[1:]
			continue
		}
		leaves, err := s.internal.leaves(ctx, names[0])
		if err != nil {
			return err
		}
		s.keepers, names = append(s.keepers, leaves...), names[1:]
	}
	return nil
}

func (o Options) order() ([]Kind, error) {
	if len(o.Files)+len(o.Internal) == 0 {
		return nil, errors.New("certificates: none configured: name a pair of PEM files, or names for the internal CA")
	}
	count := map[Kind]int{}
	for _, kind := range o.Order {
		count[kind]++
	}
	switch {
	case len(o.Order) == 0:
		order := make([]Kind, len(o.Files)+len(o.Internal)) // File is zero
		for i := len(o.Files); i < len(order); i++ {
			order[i] = Internal
		}
		return order, nil
	case count[File] != len(o.Files), count[Internal] != len(o.Internal), len(count) > 2:
		return nil, fmt.Errorf("certificates: order names %d files and %d internal, there are %d and %d",
			count[File], count[Internal], len(o.Files), len(o.Internal))
	}
	return o.Order, nil
}

// Run keeps the certificates fresh until ctx ends, and then returns nil. The
// Source goes on serving what it has, so that a drain can still shake hands.
func (s *Source) Run(ctx context.Context) error {
	if s.ran.Swap(true) {
		return errors.New("certificates: already run")
	}
	defer s.Close()
	tick := time.NewTicker(s.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Reload()
		}
	}
}

// Reload looks for better certificates now. They are served when it returns.
func (s *Source) Reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := false
	for _, k := range s.keepers {
		changed = k.look() || changed
	}
	if changed {
		s.swapIndex()
	}
}

// Close stops the renewals. Run does it by itself; a Source that is never run
// needs it. It may be called more than once.
func (s *Source) Close() {
	if s.internal != nil {
		s.internal.close()
	}
}

// Ready reports whether at least one certificate can be served.
func (s *Source) Ready() bool {
	x := s.index.Load()
	return x != nil && len(x.any) > 0
}

func (s *Source) swapIndex() {
	next := newIndex()
	for _, k := range s.keepers {
		if c := k.certificate(); c != nil {
			next.add(c)
		}
	}
	s.index.Store(next)
}

// getCertificate is called in every handshake: one atomic load, a map look-up
// or two, no allocation.
func (s *Source) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if x := s.index.Load(); x != nil {
		if c := x.choose(hello); c != nil {
			return c, nil
		}
	}
	return nil, errNoCertificate
}

var errNoCertificate = errors.New("no certificate yet")
