package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A Server is all listeners and all sessions. Its fields are set before the
// first Apply and not changed afterwards.
type Server struct {
	Observer Observer    // may be nil
	Log      *zap.Logger // may be nil

	once    sync.Once
	notices notices

	mu       sync.Mutex
	settings *generation
	doors    map[net.Listener]*door
	sessions map[*session]struct{} // of all generations
	clients  map[netip.Prefix]int
	closed   bool
	cut      bool           // the time of a drain is over
	running  sync.WaitGroup // sessions and accept loops
}

func (s *Server) init() {
	s.sessions, s.clients = map[*session]struct{}{}, map[netip.Prefix]int{}
}

func (s *Server) log() *zap.Logger {
	if s.Log == nil {
		return zap.NewNop()
	}
	return s.Log
}

// start gives a connection its session. It must not wait: it stands in the
// accept loop.
func (s *Server) start(at *place, conn net.Conn) {
	sess := &session{server: s, settings: at.settings, listener: at.listener}
	sess.client.init(conn) // before another goroutine can abort it
	sess.rec.Start = time.Now()
	sess.rec.Session, sess.rec.Listener = newID(), at.listener.Name
	sess.limit = sess.rec.Start.Add(at.settings.Timeouts.Session)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		conn.Close()
		return
	}
	// Accepted just before the listener was closed: it hears 421 as the others
	// do, for nobody else will ever see it.
	sess.draining = s.closed
	most := at.settings.Limits.Sessions
	sess.refused = most > 0 && len(s.sessions) >= most
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
	if !client.IsValid() {
		return true // a unix socket's peer has no address
	}
	bits := 32
	if client.Is6() {
		bits = 64 // what one subscriber has
	}
	host, _ := client.Prefix(bits) // fails only for lengths that an address has not
	s.mu.Lock()
	defer s.mu.Unlock()
	if most := sess.settings.Limits.PerClient; most > 0 && s.clients[host] >= most {
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
	for l := range s.doors {
		l.Close()
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
	s.cut = true
	for sess := range s.sessions {
		sess.abort()
	}
	s.mu.Unlock()
	select {
	case <-done:
	case <-time.After(time.Second): // what waits for the processor now ends by itself
	}
	return ctx.Err()
}

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// A LiveKey is what sessions that are up are counted by.
type LiveKey struct {
	Listener string
	Phase    Phase
}

// Live counts the sessions that are up. It looks at each of them, which takes
// about a millisecond for 10,000.
func (s *Server) Live() map[LiveKey]int {
	live := map[LiveKey]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		live[LiveKey{sess.rec.Listener, Phases[sess.phase.Load()]}]++
	}
	return live
}
