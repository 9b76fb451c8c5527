// Package certs keeps certificates fresh and hands them to listeners as one
// *tls.Config each.
//
// A Source holds every certificate of the configuration, whatever its origin:
// pairs of PEM files, which are polled; and, each with a supervisor of its own,
// certificates by ACME and leaves of an internal CA. The certificates meet in
// one immutable index that is swapped whole at each change, so that a handshake
// reads it without a lock and a renewal touches no session. What holds:
//
//   - a certificate in use is replaced only by a better one: nothing that a
//     half-finished, wrong or stale write leaves on the disk is ever served;
//   - every client is served, with a server name or without one: by exact
//     name, then by wildcard, then the first certificate;
//   - a client that offers ALPN protocols without smtp is refused (a browser
//     steered here by an attacker, CVE-2021-3618), one that offers none is not.
//
// A certificate that we obtain has one name, so an entry with several names gets
// one for each; the choice by server name hides it.
//
// The package does not watch files by inotify (polling also sees changes on
// network file systems and behind symbolic links), and does not reload client
// CA files.
package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// A Pair names a certificate chain (PEM, leaf first) and its private key (PEM,
// not encrypted). Both may be in the same file.
type Pair struct{ CertFile, KeyFile string }

// An Entry is one of the configuration's certificates: a pair of files, or
// names for the internal CA, or names for ACME.
type Entry struct {
	Pair
	Names    []string // DNS names (also *.example.org) and IP addresses
	Internal bool
	KeyTypes []string // by ACME, a certificate of each: p256, p384, rsa2048, rsa4096; empty: p256
}

// Options is what a Source keeps and how.
type Options struct {
	Entries      []Entry           // the first is for clients that name none
	Storage      certmagic.Storage // for what we obtain, and shared session tickets; else not needed. The caller closes it
	ACME         *ACME             // needed if an entry is by ACME
	OnEvent      Hook              // who is told of what happens to certificates
	Observe      func(Event)       // … and this process itself, at once; it must not block. nil: nobody
	Tickets      *Tickets          // keys of session tickets, which the caller runs; nil: the Source has its own
	Log          *zap.Logger       // nil: silent
	PollInterval time.Duration     // how often the files are looked at; 0: 10 s
	StoragePoll  time.Duration     // … and the storage; 0: 30 s
	LeafLifetime time.Duration     // of the internal CA's leaves; 0: 90 days

	// Strict: a pair of files that cannot be loaded is an error of Open even
	// beside good ones. It is for a reload, which can be refused.
	Strict bool

	// ReadOnly: for those who look. Nothing is made, obtained or written, and
	// whatever cannot be read is a Problem of its Certificate, not an error.
	ReadOnly bool
}

func (o Options) poll() time.Duration {
	if o.StoragePoll > 0 {
		return o.StoragePoll
	}
	return storagePoll
}

// A Source serves the newest good certificate of every entry. Its methods may
// be called at once from many goroutines.
type Source struct {
	log       *zap.Logger
	options   Options
	index     atomic.Pointer[index]
	acmeNames atomic.Pointer[map[string]bool] // for which challenges are answered
	acme      *acmeOrigin                     // nil: no ACME
	stapler   *stapler
	tickets   *tickets // nil: no storage to share them through
	own       *Tickets // of this process
	hook      *hook
	ran       atomic.Bool
	closed    sync.Once
	changed   chan struct{} // a managed certificate has been replaced

	applying chan struct{} // holds a token while there is a Change; taken before mu

	// mu guards what follows, and what file keepers hold. Nobody waits for
	// storage, network or a supervisor with it: status pages need it.
	mu       sync.Mutex
	keepers  []keeper        // in the order of the configuration
	running  context.Context // of Run; nil before
	over     bool            // closed
	internal *internal       // nil: no internal CA
}

// A keeper holds one certificate and notices when there is a better one. look
// is called under Source.mu.
type keeper interface {
	key() string                   // tells it from all others
	look() bool                    // takes a better certificate if there is one; true: it did
	certificate() *tls.Certificate // the one in use, or nil
	status() Certificate
}

// Open loads every file and what the storage has, and makes what the internal
// CA lacks: its root on first use, its leaves. A leaf that cannot be had is an
// error that says what to do. So is a pair of files, unless there is something
// else to serve: then the others are, and it heals when the files do. An expired
// one is served, loudly, since most clients on port 25 do not look. Of ACME only
// what is in the storage is served at first: Run obtains the rest. The caller
// owes a Run or a Close.
func Open(ctx context.Context, o Options) (*Source, error) {
	s := newSource(o)
	err := s.openACME()
	if err == nil {
		err = s.apply(ctx, o.Entries, !o.Strict)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newSource(o Options) *Source {
	s := &Source{log: o.Log, changed: make(chan struct{}, 1), applying: make(chan struct{}, 1), own: o.Tickets}
	if s.log == nil || o.ReadOnly { // who looks finds it in the status
		s.log = zap.NewNop()
	}
	if o.PollInterval <= 0 {
		o.PollInterval = 10 * time.Second
	}
	if o.ReadOnly && o.Storage != nil {
		o.Storage = readOnly{o.Storage}
	}
	s.options = o
	s.hook = newHook(o.OnEvent, s.log)
	s.stapler = newStapler(o.Storage, s.log)
	if o.Storage != nil {
		s.tickets = newTickets(o.Storage, s.log)
	}
	if s.own == nil {
		s.own = NewTickets()
	}
	return s
}

// Run keeps the certificates fresh until ctx ends, and then returns nil. The
// Source goes on serving what it has, so that a drain can still shake hands.
func (s *Source) Run(ctx context.Context) error {
	if s.options.ReadOnly {
		return errReadOnly
	}
	if s.ran.Swap(true) {
		return errors.New("certificates: already run")
	}
	defer s.Close()
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { s.hook.run(ctx) })
	if s.tickets != nil {
		beside.Go(func() { s.tickets.run(ctx) })
	}
	if s.options.Tickets == nil {
		beside.Go(func() { s.own.Run(ctx) })
	}
	s.start(ctx)
	defer s.halt()
	tick := time.NewTicker(s.options.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
			s.refresh()
		case <-tick.C:
			s.lookAtFiles()
		}
	}
}

// refresh serves what the keepers hold now.
func (s *Source) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swapIndex()
}

// stale tells Run that a managed certificate has been replaced.
func (s *Source) stale() {
	select {
	case s.changed <- struct{}{}:
	default: // it will see this one, too
	}
}

// tell passes an event on to whoever is configured to hear of it.
func (s *Source) tell(e Event) {
	e.Error = bounded(e.Error, hookError)
	if s.options.Observe != nil {
		s.options.Observe(e)
	}
	s.hook.tell(e)
}

// Reload looks for better files now, which are served when it returns, and lets
// failed attempts, and questions that a CA did not answer, be repeated at once.
func (s *Source) Reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(func(keeper) bool { return true })
}

func (s *Source) lookAtFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(func(k keeper) bool { _, ours := k.(*managed); return !ours })
}

func (s *Source) look(which func(keeper) bool) {
	changed := false
	for _, k := range s.keepers {
		if which(k) {
			changed = k.look() || changed
		}
	}
	if changed {
		s.swapIndex()
	}
}

// Close stops the renewals. Run does it by itself; a Source that is never run
// needs it. It may be called more than once.
func (s *Source) Close() {
	s.closed.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
		if s.internal != nil {
			s.internal.close()
		}
		if s.acme != nil {
			s.acme.close()
		}
	})
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
