package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"smtpseal/proxy/backend"
)

// Settings are what a Server serves with. A session keeps those that it was
// born with.
type Settings struct {
	Hostname  string // in greetings and 421 replies
	Limits    Limits
	Timeouts  Timeouts
	Listeners []Listener
}

// A Mode is when TLS begins on a listener.
type Mode int

// The modes.
const (
	Implicit      Mode = iota // with the first octet (RFC 8314), port 465
	StartTLS                  // by STARTTLS, demanded before anything else (RFC 3207), port 587
	Opportunistic             // by STARTTLS if the client likes (RFC 7435), port 25
)

// A Listener is one address that is served.
type Listener struct {
	Name    string
	Mode    Mode
	Net     net.Listener
	TLS     func() *tls.Config // a nil result: there is no certificate yet
	Backend *backend.Backend

	AcceptProxy []netip.Prefix // who must send a PROXY header, and is believed
	AcceptUnix  bool           // so must every peer of a unix socket
}

// Limits bound what clients may take. A zero is no limit, but for Handshakes.
type Limits struct {
	Sessions   int // all together
	PerClient  int // per IPv4 address or IPv6 /64
	Handshakes int // computing at once; 0: four per processor
}

// Timeouts bound the stages of a session, each over the whole of it (RFC 5321
// section 4.5.3.2). Body is the time without progress. All must be positive.
type Timeouts struct {
	Cleartext, Handshake, Dial, Greeting, Command, Body, Reply, Session time.Duration
}

// A generation is the settings of one Apply and what belongs to them alone. It
// lives for as long as a session that was born with it.
type generation struct {
	Settings
	handshakes *turnstile
	debug      bool // the log has this level; asked once, for it would cost at every command
}

// portOf returns where a mode is served, or the usual port.
func (g *generation) portOf(mode Mode, usual string) string {
	for i := range g.Listeners {
		if g.Listeners[i].Mode == mode {
			return g.Listeners[i].Net.Addr().String()
		}
	}
	return usual
}
