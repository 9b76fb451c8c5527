// Package mta is a mail server for tests: it does what it is told, remembers
// every octet, and fails where and how the test wants it to.
//
// It speaks SMTP with PIPELINING, CHUNKING, SIZE, 8BITMIME, SMTPUTF8 and AUTH
// well enough for swaks, curl and openssl, reads PROXY headers as strictly or as
// sloppily as the servers that it stands in for, and keeps for each connection
// a transcript and for each mail the envelope and the exact octets.
//
// What it is not: a check that clients obey SMTP. Where a rule is not needed to
// keep the two sides in step it takes what comes, and the test looks at the
// transcript. It runs on Linux only (see socket_linux.go).
package mta

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A Config says what server to be. The zero value is a well-behaved plain
// server on a free port of 127.0.0.1.
type Config struct {
	Network string // tcp (default) or unix
	Addr    string // host:port or path; default a free port of 127.0.0.1, or a new path

	Hostname   string   // default mta.example.test
	Greeting   string   // every octet of it, CRLF included; default a 220 of one line
	Extensions []string // lines of the EHLO reply after the first; nil: Ordinary

	Users map[string]string // name to password, for AUTH
	Size  int64             // largest body, refused with 552 after it has come; 0: any

	Proxy         Proxy         // which PROXY header comes first
	PeekOnce      bool          // a header not whole in the first read is refused, as Postfix does
	SwallowBehind bool          // what shares the header's read is lost, as in OpenSMTPD
	HeaderTimeout time.Duration // how long to wait for a header; default 5 s
	BadHeader     BadHeader     // what a missing or bad header is answered with

	GreetDelay time.Duration // how long before the greeting to listen for clients that talk too early

	Lenient bool          // takes any dot between any line ends for the end of data: the victim of SMTP smuggling
	Tarpit  time.Duration // before each reply that is an error, as Exchange does

	Faults []Fault
	Wait   time.Duration // bound of every wait of a test; default 10 s
}

// A Server is a running server. All its methods may be called at any time.
type Server struct {
	config   Config
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup // the accept loop and one for each session

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced whenever a record changes
	open        map[net.Conn]bool
	connections []*Connection
	messages    []Message
	taken       int // messages that WaitMessage has handed out
}

// Start runs a server until the test ends. By then every connection is closed
// and every goroutine gone.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	if config.Network == "unix" && config.Addr == "" {
		config.Addr = filepath.Join(t.TempDir(), "mta.sock")
	}
	s, err := Listen(config)
	if err != nil {
		t.Fatalf("mta: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Listen is Start for callers without a test. They owe a Close.
func Listen(config Config) (*Server, error) {
	config = config.withDefaults()
	listener, err := net.Listen(config.Network, config.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Server{config: config, listener: listener, open: map[net.Conn]bool{}, changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.accept)
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Network == "" {
		c.Network = "tcp"
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Hostname == "" {
		c.Hostname = "mta.example.test"
	}
	if c.Greeting == "" {
		c.Greeting = "220 " + c.Hostname + " ESMTP ready\r\n"
	}
	if c.Extensions == nil {
		c.Extensions = Ordinary
	}
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 5 * time.Second
	}
	if c.Wait == 0 {
		c.Wait = 10 * time.Second
	}
	return c
}

// Addr is where the server listens: host:port, or a path.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends the server and all its sessions, and waits for them.
func (s *Server) Close() {
	s.cancel()
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// accept ends with the listener. Any other error (no descriptors left) would
// hide what the test is after, so it ends the server too, and the dial of the
// next client fails.
func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			s.listener.Close()
			return
		}
		record := s.opened(conn)
		s.running.Go(func() {
			defer s.closed(conn)
			serve(s, conn, record)
		})
	}
}

// opened begins a record. A connection that was accepted while Close went on
// is closed at once.
func (s *Server) opened(conn net.Conn) *Connection {
	record := &Connection{Peer: conn.RemoteAddr()}
	s.update(func() {
		record.Number = len(s.connections) + 1
		s.connections = append(s.connections, record)
		s.open[conn] = true
		if s.ctx.Err() != nil {
			conn.Close()
		}
	})
	return record
}

func (s *Server) closed(conn net.Conn) {
	conn.Close()
	s.update(func() { delete(s.open, conn) })
}

// sleep waits for d and tells whether the server is still up.
func (s *Server) sleep(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
