package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A managed certificate is one that we obtain and renew: one name and one type
// of key, by ACME or from the internal CA. The storage is the truth, since
// another replica or the command line may write there too; what is served
// follows it.
type managed struct {
	*issuance
	name   string // as internalName has it
	log    *zap.Logger
	source *Source
	nudge  chan struct{} // try again now
	stop   context.CancelFunc
	done   chan struct{} // closed when the supervisor has ended

	mu     sync.Mutex // guards what follows
	held   *tls.Certificate
	issuer string            // the folder of its CA
	former bool              // that CA is not configured any more
	lost   bool              // it is not in the storage any more
	hasty  time.Time         // when a certificate was replaced before its time
	read   map[string][]byte // chains as they were read last, by CA: the poll compares before it parses
	expiry expiry
	window window    // what the CA advises
	staple time.Time // when its word against a revocation is to be fetched; zero: now
	state  state
}

// A state is what a status page shows of the attempts.
type state struct {
	loads     int
	failures  int // in a row
	lastError string
	lookError string    // of the last look into the storage; empty: it went well
	lastTry   time.Time // behind a failure
	nextTry   time.Time // …
	renewals  int       // by this process
	failed    int       // attempts of this process
}

func (m *managed) certificate() *tls.Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held
}

// look is for keepers that are polled. This one has a supervisor, to whom a
// look is a hint that an attempt may go better now.
func (m *managed) look() bool {
	select {
	case m.nudge <- struct{}{}:
	default: // it has been told already
	}
	return false
}

// errBroken is a certificate in the storage that cannot be used.
var errBroken = errors.New("broken certificate in storage")

// reload takes the newest certificate that is in the storage, if it is to be
// served in place of the one that is held. That there is none is no error.
func (m *managed) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	newest, err := m.newest(ctx)
	if newest == nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read[newest.issuer] = newest.chain
	if m.follows(newest, time.Now()) {
		m.hold(newest)
	}
	return nil
}

// follows reports whether a certificate from the storage is to be served. One
// that is older by its dates is not, a backup perhaps, unless the one that is
// held is of no use: a clock that was ahead may have made it. The caller holds
// mu.
func (m *managed) follows(next *stored, now time.Time) bool {
	return m.held == nil || m.former || m.lost || newer(next.Certificate, m.held) ||
		!valid(m.held.Leaf, now) && valid(next.Leaf, now)
}

// hold takes a certificate into use. The caller holds mu.
func (m *managed) hold(c *stored) {
	now := time.Now().Round(0)
	if m.held != nil && !m.former && now.Before(naturally(m.held.Leaf)) {
		m.hasty = now
	}
	m.held, m.issuer, m.former, m.lost = c.Certificate, c.issuer, !m.configured(c.issuer), false
	m.read[c.issuer] = c.chain
	m.window, m.staple = window{}, time.Time{}
	m.state.loads++
	m.log.Info("certificate loaded", zap.Time("not_after", c.Leaf.NotAfter), zap.String("serial", serialOf(c.Leaf)))
	m.source.stale()
}

func newer(a, b *tls.Certificate) bool {
	return a.Leaf.NotBefore.After(b.Leaf.NotBefore) ||
		a.Leaf.NotBefore.Equal(b.Leaf.NotBefore) && a.Leaf.NotAfter.After(b.Leaf.NotAfter)
}

func valid(leaf *x509.Certificate, now time.Time) bool {
	return !now.Before(leaf.NotBefore) && !now.After(leaf.NotAfter)
}

// A stored certificate is one that was read from the storage.
type stored struct {
	*tls.Certificate
	chain  []byte // PEM
	issuer string // its CA's folder
}

// newest reads what the storage has for this name, from whichever CA. It
// returns nil if there is nothing, or nothing that was not read before. A
// broken pair is an error only where there is no good one.
func (m *managed) newest(ctx context.Context) (newest *stored, err error) {
	var broken error
	for _, issuer := range m.config.Issuers {
		c, err := m.load(ctx, issuer.IssuerKey())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			m.missing(issuer.IssuerKey())
		case errors.Is(err, errBroken):
			broken = err
		case err != nil:
			return nil, err
		case c != nil && (newest == nil || newer(c.Certificate, newest.Certificate)):
			newest = c
		}
	}
	if newest != nil {
		return newest, nil
	}
	return nil, broken
}

// missing notes that a CA's folder is empty. If what is held was in it, another
// process has put a certificate of another CA in its place (see supersede), and
// the next look must not pass over that because it has seen it before.
func (m *managed) missing(issuer string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if issuer == m.issuer && m.read[issuer] != nil {
		clear(m.read)
		m.lost = true
	}
}

// load reads one pair, unless it was read before.
func (m *managed) load(ctx context.Context, issuer string) (*stored, error) {
	chain, err := m.storage.Load(ctx, siteCert(issuer, m.name))
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	m.mu.Lock()
	known := bytes.Equal(chain, m.read[issuer])
	m.mu.Unlock()
	if known {
		return nil, nil
	}
	c, err := m.complete(ctx, issuer, chain)
	if !errors.Is(err, errBroken) {
		return c, err
	}
	// Another process may be writing it at this moment, key and certificate
	// one after the other.
	select {
	case <-time.After(pairPause):
		return m.pair(ctx, issuer)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pairPause is longer than two writes take.
const pairPause = 200 * time.Millisecond

// pair reads one pair.
func (m *managed) pair(ctx context.Context, issuer string) (*stored, error) {
	chain, err := m.storage.Load(ctx, siteCert(issuer, m.name))
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return m.complete(ctx, issuer, chain)
}

// complete reads the key for a chain.
func (m *managed) complete(ctx context.Context, issuer string, chain []byte) (*stored, error) {
	key, err := m.storage.Load(ctx, siteKey(issuer, m.name))
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err == nil && isCut(chain) { // crypto/tls is content with the leaf
		err = errors.New("the end of the chain is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBroken, siteCert(issuer, m.name), err)
	}
	return &stored{&c, chain, issuer}, nil
}

// isCut reports whether something is left behind the last whole block of PEM.
func isCut(chain []byte) bool {
	for {
		block, rest := pem.Decode(chain)
		if block == nil {
			return len(bytes.TrimSpace(rest)) > 0
		}
		chain = rest
	}
}

func (m *managed) configured(issuer string) bool {
	for _, i := range m.config.Issuers {
		if i.IssuerKey() == issuer {
			return true
		}
	}
	return false
}

// naturally is when a certificate should be renewed, if its CA does not say: a
// third of its life is left then.
func naturally(leaf *x509.Certificate) time.Time { return leaf.NotAfter.Add(-life(leaf) / 3) }

func life(leaf *x509.Certificate) time.Duration { return leaf.NotAfter.Sub(leaf.NotBefore) }

// dueAt is when the certificate that is held should be renewed. Its CA's advice
// counts within bounds: it must neither make us wait until a failure would be an
// alarm, nor order again and again because it errs.
func (m *managed) dueAt() time.Time {
	leaf := m.held.Leaf
	due := naturally(leaf)
	if m.window.at.IsZero() {
		return due
	}
	pause := m.hasty.Add(min(day, life(leaf)/10))
	if pause.After(due) {
		pause = due
	}
	if at := m.window.at; at.After(pause) {
		due = at
	} else {
		due = pause
	}
	if latest := leaf.NotAfter.Add(-life(leaf) / 6); due.After(latest) {
		due = latest
	}
	return due
}

// due reports whether there is something to obtain or to renew. A leaf of the
// internal CA that is not valid yet was made by a clock that was ahead; for one
// of a real CA it is our clock that is behind, and another order no help.
func (m *managed) due(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held == nil || m.former || !now.Before(m.dueAt()) ||
		m.origin != originACME && now.Before(m.held.Leaf.NotBefore)
}

// alert is how long before its end a certificate that was not renewed is a
// reason to worry, though its life may be short.
func (m *managed) alert(leaf time.Duration) time.Duration { return min(m.alertBefore, leaf/6) }

func (m *managed) status() Certificate {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Certificate{Names: []string{m.name}}
	if m.held != nil {
		c = describe(m.held.Leaf)
		c.NextRenewal = m.dueAt()
	}
	c.Name, c.KeyType = m.name, m.kind.name
	c.Source, c.Loads = m.origin, m.state.loads
	if c.LastError, c.NextTry = m.state.lastError, m.state.nextTry; c.LastError != "" {
		c.LastTry = m.state.lastTry
	} else {
		c.LastError = m.state.lookError
	}
	c.Renewals, c.Failures = m.state.renewals, m.state.failed
	if m.held == nil {
		c.Problem = "no certificate yet"
	} else if left := time.Until(c.NotAfter); left < m.alert(c.NotAfter.Sub(c.NotBefore)) {
		c.Problem = "not renewed: expires on " + date(c.NotAfter)
		if left < 0 {
			c.Problem = "expired on " + date(c.NotAfter)
		}
	}
	switch {
	case c.LastError != "":
		c.Remedy = remedy(errors.New(c.LastError))
		if c.Problem != "" {
			c.Problem += ": " + c.LastError
		}
	case m.held != nil && c.Problem != "":
		c.Remedy = renewRemedy
	}
	return c
}
