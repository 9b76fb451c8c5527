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
}

// A SessionKey is what sessions are counted by. Both parts come from the
// configuration and from this package, so that no client can add a key.
type SessionKey struct {
	Listener string
	Outcome  Outcome
}

// SessionEnded counts r.
func (c *Counters) SessionEnded(r *Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.totals
	if t.Sessions == nil {
		*t = Totals{
			Sessions: map[SessionKey]int64{}, Violations: map[string]int64{}, Messages: map[string]int64{},
			BytesIn: map[string]int64{}, BytesOut: map[string]int64{},
		}
	}
	t.Sessions[SessionKey{r.Listener, r.Outcome}]++
	if r.Violation != "" {
		t.Violations[r.Violation]++
	}
	t.Messages[r.Listener] += int64(r.Messages)
	t.BytesIn[r.Listener] += r.BytesIn
	t.BytesOut[r.Listener] += r.BytesOut
	t.LeftOut += int64(r.LeftOut)
}

// Totals returns the sums so far.
func (c *Counters) Totals() Totals {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.totals
	t.Sessions, t.Violations = maps.Clone(t.Sessions), maps.Clone(t.Violations)
	t.Messages, t.BytesIn, t.BytesOut = maps.Clone(t.Messages), maps.Clone(t.BytesIn), maps.Clone(t.BytesOut)
	return t
}
