// Package redis runs a real Redis for tests: in the foreground, in a directory
// of its own, on a free loopback port, from the package that test/install.sh has
// unpacked. It needs no root and touches nothing of the machine.
//
// What is written is on the disk when Redis answers, so that a server that is
// stopped, or crashes, and is started again has lost nothing.
package redis

import (
	"net/url"
	"testing"

	"smtpseal/test/loopback"

	"smtpseal/test/debian"
)

// Password is what a server wants to hear. It has the octets in it that URLs,
// and those who take them apart, stumble over.
const Password = "h1dden/p@ss?word%41#"

// A Config says what Redis to run. The zero value is one without TLS.
type Config struct {
	// PEM files; with them the server speaks TLS only.
	CertFile, KeyFile string
}

// A Server is a running Redis.
type Server struct {
	config  Config
	root    string // of the unpacked packages
	dir     string
	addr    string
	process *process // nil: stopped
	log     debian.Journal
}

// Start runs a server until the test ends.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	s, err := New(config, t.TempDir())
	if err != nil {
		t.Fatalf("redis: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("redis: stop: %v", err)
		}
		if t.Failed() {
			t.Logf("redis:\n%s", s.Log())
		}
	})
	return s
}

// New runs a server in dir until Stop.
func New(config Config, dir string) (*Server, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, root: root, dir: dir, addr: addr}
	if err := s.configure(); err != nil {
		return nil, err
	}
	return s, s.Again()
}

// Addr is its host:port.
func (s *Server) Addr() string { return s.addr }

// URL is how its clients name it, password and all.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("default", Password), Host: s.addr, Path: "/0"}
	if s.config.CertFile != "" {
		u.Scheme = "rediss"
	}
	return u.String()
}

// Log is what the server has said so far.
func (s *Server) Log() string { return s.log.String() }
