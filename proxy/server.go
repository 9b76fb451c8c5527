package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
	"smtpseal/proxy/backend"
)

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

// A Server is all listeners and all sessions. Its fields are set before Apply
// and not changed afterwards.
type Server struct {
	Hostname string // in greetings and 421 replies
	Limits   Limits
	Timeouts Timeouts
	Observer Observer    // may be nil
	Log      *zap.Logger // may be nil

	once       sync.Once
	handshakes *turnstile
	notices    notices
	debug      bool // log has this level; asked once, for it would cost at every command

	mu        sync.Mutex
	listeners []*Listener
	sessions  map[*session]struct{}
	clients   map[netip.Prefix]int
	closed    bool
	running   sync.WaitGroup // sessions and accept loops
}

func (s *Server) init() {
	n := s.Limits.Handshakes
	if n == 0 {
		n = 4 * runtime.GOMAXPROCS(0)
	}
	s.handshakes = newTurnstile(n)
	s.sessions, s.clients = map[*session]struct{}{}, map[netip.Prefix]int{}
	s.debug = s.log().Core().Enabled(zap.DebugLevel)
}

func (s *Server) log() *zap.Logger {
	if s.Log == nil {
		return zap.NewNop()
	}
	return s.Log
}

func (s *Server) debugging() bool { return s.debug }

// Apply begins to serve the listeners, and owns them from then on. After
// Shutdown it serves and owns none.
func (s *Server) Apply(listeners []Listener) error {
	s.once.Do(s.init)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the server is shut down")
	}
	for i := range listeners {
		l := &listeners[i]
		s.listeners = append(s.listeners, l)
		s.running.Go(func() { s.accept(l) })
	}
	return nil
}

// Accept errors back off from and to these: out of descriptors, trying again
// at once would only burn the processor that could free some.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

func (s *Server) accept(l *Listener) {
	backoff := minBackoff
	for {
		conn, err := l.Net.Accept()
		switch {
		case err == nil:
			backoff = minBackoff
			s.start(l, conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.log().Error("accept", zap.String("listener", l.Name), zap.Error(err), zap.Duration("retry_in", backoff))
			time.Sleep(backoff)
			backoff = min(2*backoff, maxBackoff)
		}
	}
}

// start gives a connection its session. It must not wait: it stands in the
// accept loop.
func (s *Server) start(l *Listener, conn net.Conn) {
	sess := &session{server: s, listener: l}
	sess.client.init(conn) // before another goroutine can abort it
	sess.rec.Start = time.Now()
	sess.rec.Session, sess.rec.Listener = newID(), l.Name
	sess.limit = sess.rec.Start.Add(s.Timeouts.Session)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return
	}
	sess.refused = s.Limits.Sessions > 0 && len(s.sessions) >= s.Limits.Sessions
	s.sessions[sess] = struct{}{}
	s.running.Go(func() { sess.run() })
}

// ended forgets a session.
func (s *Server) ended(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
	if sess.host.IsValid() {
		if s.clients[sess.host]--; s.clients[sess.host] == 0 {
			delete(s.clients, sess.host)
		}
	}
}

// enter counts a session for its client, unless that has too many.
func (s *Server) enter(sess *session, client netip.Addr) bool {
	bits := 32
	if client.Is6() {
		bits = 64 // what one subscriber has
	}
	host, err := client.Prefix(bits)
	if err != nil {
		return true // a unix socket's peer has no address
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Limits.PerClient > 0 && s.clients[host] >= s.Limits.PerClient {
		return false
	}
	s.clients[host]++
	sess.host = host
	return true
}

// Shutdown stops accepting and drains: sessions between two transactions hear
// 421, the others finish what they have begun. When ctx ends the rest is cut
// off, and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		l.Net.Close()
	}
	for sess := range s.sessions {
		sess.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for sess := range s.sessions {
		sess.abort()
	}
	s.mu.Unlock()
	select {
	case <-done:
	case <-time.After(time.Second): // a dial under way ends by itself
	}
	return ctx.Err()
}

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}
