// Package faulty is a mail server with TLS that does one thing wrong, on
// purpose, and all else as it should be: to show that who looks for faults finds
// that one, and no other. Without a fault it is a right server.
//
// It takes mail for @example.test from anybody, keeps it, and delivers none.
package faulty

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Name is on the certificate; its domain gets mail.
const (
	Name   = "mail." + Domain
	Domain = "example.test"
)

// A Config says which server to start. Mode is implicit, starttls or
// starttls-optional, as in the configuration of smtpseal.
type Config struct {
	Mode   string
	Fault  Fault
	Host   string // default 127.0.0.1
	OCSP   string // URL for the certificate, which then comes without a staple
	Answer string // a line in place of the greeting, of which CRLF is not added
}

// A Server is a running server.
type Server struct {
	Config
	Authority *Authority

	listener net.Listener
	tls      *tls.Config
	sessions sync.WaitGroup

	mu        sync.Mutex
	open      []net.Conn
	delivered []string
	count     int
}

// Start runs a server until the test ends.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	if config.Host == "" {
		config.Host = "127.0.0.1"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(config.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Config: config, Authority: NewAuthority(t), listener: listener}
	s.tls = s.config(t)
	if config.Fault == ClosedPort {
		listener.Close()
		return s
	}
	s.sessions.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Roots has the one CA that a client should trust.
func (s *Server) Roots() *x509.CertPool { return s.Authority.Pool() }

// Certificate is the leaf that it serves.
func (s *Server) Certificate() *x509.Certificate { return s.tls.Certificates[0].Leaf }

// VerifyOptions are what the chain of a right server can be verified by.
func (s *Server) VerifyOptions() x509.VerifyOptions {
	between := x509.NewCertPool()
	between.AddCert(s.Authority.between)
	return x509.VerifyOptions{Roots: s.Roots(), Intermediates: between}
}

// Delivered are the messages that it took.
func (s *Server) Delivered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.delivered)
}

// Sessions is how many connections it has had.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open = append(s.open, conn)
		s.count++
		s.mu.Unlock()
		conn.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs ends
		s.sessions.Go(func() { s.serve(conn) })
	}
}

func (s *Server) stop() {
	s.listener.Close()
	s.mu.Lock()
	for _, conn := range s.open {
		conn.Close()
	}
	s.mu.Unlock()
	s.sessions.Wait()
}
