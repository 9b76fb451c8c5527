package certs

import (
	"bytes"
	"context"
	"crypto/tls"
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
	read   map[string][]byte // chains as they were read last, by CA: the poll compares before it parses
	expiry expiry
	window window // what the CA advises
	state  state
}

// A state is what a status page shows of the attempts.
type state struct {
	loads     int
	failures  int // in a row
	lastError string
	nextTry   time.Time // behind a failure
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

// reload takes the newest certificate that is in the storage, if it is newer
// than the one that is held. That there is none is no error.
func (m *managed) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	newest, err := m.newest(ctx)
	if err != nil || newest == nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read[newest.issuer] = newest.chain
	if m.held != nil && !newer(newest.Certificate, m.held) {
		return nil
	}
	m.held, m.issuer, m.window = newest.Certificate, newest.issuer, window{}
	m.state.loads++
	m.log.Info("certificate loaded", zap.Time("not_after", newest.Leaf.NotAfter), zap.String("serial", newest.Leaf.SerialNumber.Text(16)))
	m.source.stale()
	return nil
}

func newer(a, b *tls.Certificate) bool {
	return a.Leaf.NotBefore.After(b.Leaf.NotBefore) ||
		a.Leaf.NotBefore.Equal(b.Leaf.NotBefore) && a.Leaf.NotAfter.After(b.Leaf.NotAfter)
}

// A stored certificate is one that was read from the storage.
type stored struct {
	*tls.Certificate
	chain  []byte // PEM
	issuer string // its CA's folder
}

// newest reads what the storage has for this name, from whichever CA. It
// returns nil if there is nothing, or nothing that was not read before.
func (m *managed) newest(ctx context.Context) (newest *stored, err error) {
	for _, issuer := range m.config.Issuers {
		c, err := m.load(ctx, issuer.IssuerKey())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if c != nil && (newest == nil || newer(c.Certificate, newest.Certificate)) {
			newest = c
		}
	}
	return newest, nil
}

// load reads one pair, unless it was read before. Another replica may be
// writing it at this moment: then the next poll reads it whole.
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
	key, err := m.storage.Load(ctx, siteKey(issuer, m.name))
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBroken, siteCert(issuer, m.name), err)
	}
	return &stored{&c, chain, issuer}, nil
}

// dueAt is when the certificate that is held should be renewed: when a third
// of its life is left, or when its CA says.
func (m *managed) dueAt() time.Time {
	leaf := m.held.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	due := leaf.NotAfter.Add(-life / 3)
	if !m.window.at.IsZero() {
		// A CA that errs must not make us wait until it is too late.
		due = m.window.at
		if latest := leaf.NotAfter.Add(-life / 10); due.After(latest) {
			due = latest
		}
	}
	return due
}

// due reports whether there is something to obtain or to renew.
func (m *managed) due(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held == nil || !now.Before(m.dueAt())
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
	c.LastError, c.NextTry = m.state.lastError, m.state.nextTry
	c.Renewals, c.Failures = m.state.renewals, m.state.failed
	if m.held == nil {
		c.Problem = "no certificate yet"
	} else if left := time.Until(c.NotAfter); left < m.alert(c.NotAfter.Sub(c.NotBefore)) {
		c.Problem = "not renewed: expires on " + date(c.NotAfter)
		if left < 0 {
			c.Problem = "expired on " + date(c.NotAfter)
		}
	}
	if c.Problem != "" && c.LastError != "" {
		c.Problem += ": " + c.LastError
	}
	return c
}
