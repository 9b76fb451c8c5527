package proxy

import (
	"maps"
	"sync"
)

// Counters is an Observer that adds sessions up.
type Counters struct {
	mu     sync.Mutex
	totals Totals
}

// Totals are sums over the sessions that have ended.
type Totals struct {
	Sessions   map[SessionKey]int64
	Violations map[string]int64 // by kind
	Messages   map[string]int64 // by listener
	BytesIn    map[string]int64
	BytesOut   map[string]int64
	LeftOut    int64 // facts that did not fit into a PROXY header

	Handshakes       map[HandshakeKey]int64 // that were begun
	HandshakeSeconds Histogram              // of those that came to an end: the others last as long as a client likes
	DialSeconds      Histogram              // of each dial, whatever came of it
}

// A SessionKey is what sessions are counted by. Both parts come from the
// configuration and from this package, so that no client can add a key.
type SessionKey struct {
	Listener string
	Outcome  Outcome
}

// A HandshakeKey is what handshakes are counted by. A client chooses a Version
// among those that we offer.
type HandshakeKey struct {
	Listener string
	Version  string // "TLS 1.3", or "" if it failed before one was agreed
	Result   string // "ok" or "failed"
}

// SessionEnded counts r.
func (c *Counters) SessionEnded(r *Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.begun()
	t.Sessions[SessionKey{r.Listener, r.Outcome}]++
	if r.Violation != "" {
		t.Violations[r.Violation]++
	}
	t.Messages[r.Listener] += int64(r.Messages)
	t.BytesIn[r.Listener] += r.BytesIn
	t.BytesOut[r.Listener] += r.BytesOut
	t.LeftOut += int64(r.LeftOut)
	t.count(r)
}

// count adds what took time.
func (t *Totals) count(r *Record) {
	for _, d := range r.Dials {
		t.DialSeconds.add(d)
	}
	switch {
	case r.TLS:
		t.Handshakes[HandshakeKey{r.Listener, r.version(), "ok"}]++
		t.HandshakeSeconds.add(r.Handshake)
	case r.Phase == PhaseHandshake: // there is one in a session
		t.Handshakes[HandshakeKey{r.Listener, r.version(), "failed"}]++
	}
}

// begun returns the sums, which are there from the first look on.
func (c *Counters) begun() *Totals {
	if c.totals.Sessions == nil {
		c.totals = Totals{
			Sessions: map[SessionKey]int64{}, Violations: map[string]int64{}, Messages: map[string]int64{},
			BytesIn: map[string]int64{}, BytesOut: map[string]int64{}, Handshakes: map[HandshakeKey]int64{},
			HandshakeSeconds: newHistogram(), DialSeconds: newHistogram(),
		}
	}
	return &c.totals
}

// Totals returns the sums so far.
func (c *Counters) Totals() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := *c.begun()
	t.Sessions, t.Violations = maps.Clone(t.Sessions), maps.Clone(t.Violations)
	t.Messages, t.BytesIn, t.BytesOut = maps.Clone(t.Messages), maps.Clone(t.BytesIn), maps.Clone(t.BytesOut)
	t.Handshakes = maps.Clone(t.Handshakes)
	t.HandshakeSeconds, t.DialSeconds = t.HandshakeSeconds.clone(), t.DialSeconds.clone()
	return t
}
