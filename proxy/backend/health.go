package backend

import (
	"slices"
	"time"
)

// Health says how to find out which servers serve. A server is asked at once,
// and from then on every Interval, unless sessions show that it serves; what
// they see counts like a check. The first result decides; before it a server
// counts as up.
type Health struct {
	Interval time.Duration // between checks, a tenth of it (at least 1 s) while something is wrong; 0: no checks, all servers count as up
	Timeout  time.Duration // of a whole check; 0: 5 s
	Fall     int           // failures in a row that take a server down; 0: 3
	Rise     int           // successes in a row that bring it up again; 0: 2
}

func (h Health) withDefaults() Health {
	if h.Timeout <= 0 {
		h.Timeout = 5 * time.Second
	}
	if h.Fall <= 0 {
		h.Fall = 3
	}
	if h.Rise <= 0 {
		h.Rise = 2
	}
	return h
}

// A ServerState is what is known of one server.
type ServerState struct {
	Server  Server
	Up      bool      // true as long as nothing is known
	Known   bool      // there was a result
	Since   time.Time // when Up last changed, or was first known
	Checked time.Time // when a check or a session last had a result
	Error   string    // "step: cause" of the last failure; "" once all is well again
	Hint    string    // what to do about it, a sentence; may be ""
}

// State returns what is known of all servers, in the order of the list.
func (b *Backend) State() []ServerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	all := make([]ServerState, 0, len(b.states))
	for i := range b.states {
		all = append(all, b.states[i].ServerState)
	}
	return all
}

// Up tells whether at least one server is up, or may be: nothing is known of it.
func (b *Backend) Up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	return slices.ContainsFunc(b.states, func(s state) bool { return s.Up })
}

// Inherit takes over what old knows of servers that b has, too, so that a
// reload forgets nothing, and asks at once only whom it may have mended: those
// that are down. Where they are to be greeted in
// another way old results say little, so those servers begin as unknown. It is
// called between the end of old's Watch and the begin of b's; old, which may be
// nil, does not change.
func (b *Backend) Inherit(old *Backend) {
	if old == nil || old.Proxy != b.Proxy || old.Health.Interval <= 0 || b.Health.Interval <= 0 {
		return
	}
	old.mu.Lock()
	known := slices.Clone(old.states)
	old.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	for i := range known {
		if own := b.find(known[i].server); own != nil {
			own.memory = known[i].memory
			if !own.Up {
				own.asked, own.refused = time.Time{}, 0
			}
		}
	}
	b.reorder()
}

// Served says that a session has found the server serving: it has greeted, and
// answered EHLO with 250.
func (b *Backend) Served(server Server) {
	if b.Health.Interval <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	if s := b.find(server); s != nil {
		s.served = time.Now()
		b.good(s, s.served)
	}
}

// Failed says that a session has found the server not serving, and why. What a
// server says of one client (421 to its address, 550 to its mail) is no failure.
// The words of a check that gave advice stay until the next check.
func (b *Backend) Failed(server Server, err error) {
	if b.Health.Interval <= 0 {
		return
	}
	cause, hint := printable(err.Error(), maxError), b.hint(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin()
	if s := b.find(server); s != nil {
		if hint == "" && s.tells() {
			cause, hint = s.Error, s.Hint
		}
		b.bad(s, time.Now(), cause, hint)
	}
}

// candidates returns the servers in the order in which to try them. Nobody
// changes what is returned.
func (b *Backend) candidates() []Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.order == nil {
		return b.Servers
	}
	return b.order
}
