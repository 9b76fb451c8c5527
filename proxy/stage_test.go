package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"smtpseal/proxy/backend"
)

// A stage is a Server between pipes, for tests whose clock is synctest's and
// for those that play many sessions: no socket is opened.
type stage struct {
	t        testing.TB
	server   *Server
	settings Settings // as applied last
	config   func() *tls.Config
	listener *pipeListener
	records  chan Record
	mta      func(s *stage, c net.Conn)                  // plays the backend
	dial     func(ctx context.Context) (net.Conn, error) // nil: mta is reached
	playing  sync.WaitGroup
}

// pipe is a net.Pipe whose ends have addresses, as clients need.
type pipe struct {
	net.Conn
	local, remote net.Addr
}

func (p pipe) LocalAddr() net.Addr  { return p.local }
func (p pipe) RemoteAddr() net.Addr { return p.remote }

var (
	clientAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.7:5000"))
	serverAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.1:465"))
)

type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return serverAddr }

// DialContext makes a stage its backend's Dialer.
func (s *stage) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.dial != nil {
		return s.dial(ctx)
	}
	ours, theirs := net.Pipe()
	s.playing.Go(func() {
		defer theirs.Close()
		s.mta(s, theirs)
	})
	return ours, nil
}

func newStage(t testing.TB, mode Mode, mta func(s *stage, c net.Conn)) *stage {
	s := &stage{t: t, mta: mta, records: make(chan Record, 16), listener: newPipeListener()}
	s.server = &Server{Observer: s}
	config := &tls.Config{Certificates: []tls.Certificate{testPair().cert}}
	s.config = func() *tls.Config { return config }
	s.settings = Settings{Hostname: "mail.example.org", Timeouts: rigTimeouts, Listeners: []Listener{{
		Name: "test", Mode: mode, Net: s.listener, TLS: func() *tls.Config { return s.config() },
		Backend: &backend.Backend{Name: "mta", Servers: []backend.Server{{Network: "tcp", Addr: "mta:25"}}, Dialer: s},
	}}}
	s.apply(func(*Settings) {})
	return s
}

// apply changes the settings; the sessions that are up do not see it.
func (s *stage) apply(change func(*Settings)) {
	s.settings.Listeners = slices.Clone(s.settings.Listeners)
	change(&s.settings)
	if err := s.server.Apply(s.settings); err != nil {
		s.t.Fatal(err)
	}
}

// SessionEnded makes a stage its server's Observer.
func (s *stage) SessionEnded(r *Record) { s.records <- *r }

// connect opens a client's connection.
func (s *stage) connect() net.Conn {
	ours, theirs := net.Pipe()
	s.listener.conns <- pipe{theirs, serverAddr, clientAddr}
	return pipe{ours, clientAddr, serverAddr}
}

// seal makes the client's handshake.
func (s *stage) seal(c net.Conn) net.Conn {
	t := tls.Client(c, &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org"})
	if err := t.Handshake(); err != nil {
		s.t.Error(err)
	}
	return t
}

// hear reads what the client is told, until the end.
func (s *stage) hear(c net.Conn) <-chan string {
	all := make(chan string, 1)
	s.playing.Go(func() {
		b, _ := io.ReadAll(c)
		all <- string(b)
	})
	return all
}

// close ends a stage; whoever plays on it must have gone.
func (s *stage) close() {
	if err := s.server.Shutdown(context.Background()); err != nil {
		s.t.Error(err)
	}
	s.playing.Wait()
	if n := s.server.Sessions(); n != 0 || len(s.server.clients) != 0 {
		s.t.Errorf("%d sessions and %d clients are left", n, len(s.server.clients))
	}
	if n := len(s.server.settings.handshakes.free); n != 0 {
		s.t.Errorf("%d places of the turnstile are lost", n)
	}
}

// dribble sends an octet of text every d, again and again, until an error.
func dribble(c net.Conn, text string, d time.Duration) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(c, text[i%len(text):i%len(text)+1]); err != nil {
			return
		}
		time.Sleep(d)
	}
}

// answers are what a scripted backend says to a line, after a time; an empty
// text is never an answer.
type answers struct {
	after time.Duration
	text  string
}

// script plays a backend that greets and gives its answers, one a line.
func script(lines ...answers) func(s *stage, c net.Conn) {
	return func(_ *stage, c net.Conn) {
		io.WriteString(c, "220 mta\r\n")
		r := bufio.NewReader(c)
		for _, a := range lines {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			time.Sleep(a.after)
			if _, err := io.WriteString(c, a.text); err != nil {
				return
			}
		}
		io.Copy(io.Discard, r)
	}
}

// agreeable plays a backend that says 250, or what the verb asks for.
func agreeable(_ *stage, c net.Conn) {
	io.WriteString(c, "220 mta\r\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		reply := "250 ok\r\n"
		switch line {
		case "DATA\r\n":
			io.WriteString(c, "354 go\r\n")
			for line != ".\r\n" {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
		case "AUTH LOGIN\r\n":
			reply = "334 \r\n"
		case "QUIT\r\n":
			reply = "221 bye\r\n"
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

var errRefused = errors.New("dial tcp mta:25: connection refused")

// A syncedBuilder collects a log; zap writes to it under a lock of its own.
type syncedBuilder struct {
	mu sync.Mutex
	b  []byte
}

func (s *syncedBuilder) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p...)
	return len(p), nil
}

func (s *syncedBuilder) Sync() error { return nil }

func (s *syncedBuilder) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.b)
}
