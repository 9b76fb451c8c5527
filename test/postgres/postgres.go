// Package postgres runs a real PostgreSQL for tests: in a directory of its own,
// on a loopback port and a unix socket of its own, from packages that
// test/install.sh has unpacked.
//
// It can be stopped and started again with its data, on the same port, as often
// as a test likes. It keeps nothing when the machine fails (fsync is off), and
// it goes when the test process goes, also when that is killed. Linux only, as
// what is unpacked.
package postgres

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"smtpseal/test/loopback"

	"smtpseal/test/debian"
)

// Password is the superuser's. It has octets that a URL must escape, and is
// found nowhere else, so that a test can look for it in logs.
const Password = "h1dden/p@ss:word%41 ?"

const (
	user     = "smtpseal"
	database = "postgres"

	// wait bounds every start and stop; they take a fraction of a second.
	wait = 30 * time.Second
)

// A Server is one PostgreSQL with its data.
type Server struct {
	dir  string // our own, of the server's user
	root string // where the packages are unpacked
	addr string

	log     debian.Journal
	mu      sync.Mutex
	process *exec.Cmd // nil: stopped
}

// Start runs PostgreSQL until the test ends, and shows its log if the test
// fails.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Run()
	if err != nil {
		t.Fatalf("postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("postgres: %v", err)
		}
		if t.Failed() {
			t.Logf("PostgreSQL's log:\n%s", s.Log())
		}
	})
	return s
}

// Run is Start for callers without a test. They owe a Close.
func Run() (*Server, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: its parent is closed to all but its owner, who may be root,
	// and its path may be longer than a unix socket's may be.
	dir, err := os.MkdirTemp("", "postgres")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, root: root, addr: addr}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Again(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// URL is where the superuser connects by TCP, with the password.
func (s *Server) URL() string { return s.url(url.UserPassword(user, Password)) }

// URLWith is URL for another user, with a wrong password, or with none.
func (s *Server) URLWith(who *url.Userinfo) string { return s.url(who) }

func (s *Server) url(who *url.Userinfo) string {
	u := url.URL{Scheme: "postgres", User: who, Host: s.addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// SocketURL is URL by the unix socket.
func (s *Server) SocketURL() string {
	_, port, _ := net.SplitHostPort(s.addr)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, Password), Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "port": {port}}.Encode()}
	return u.String()
}

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// Query runs statements as superuser, past whatever is under test.
func (s *Server) Query(t testing.TB, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		t.Fatalf("postgres: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		t.Fatalf("postgres: %s: %v", statement, err)
	}
}

// Log is what the server has said since Run.
func (s *Server) Log() string { return s.log.String() }
