// Package postfix runs a real Postfix for tests: in a directory of its own, on
// loopback ports of its own, from packages that test/install.sh has unpacked.
//
// It touches nothing of the machine. No package is installed, no user made (the
// queue belongs to users that every Debian has and nobody uses), no service
// manager or system log asked, no namespace needed. All mail for
// @example.test goes to one maildir, byte for byte; all other mail that it
// accepts is thrown away.
package postfix

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/debian"
)

// Domain is the one for which mail is delivered.
const Domain = "example.test"

// Trusted is the network that may relay, a documentation network (RFC 5737).
// It is not loopback: behind a proxy that would be an open relay.
const Trusted = "198.51.100.64/26"

// A Config says what Postfix to run.
type Config struct {
	Services  []Service
	Main      string            // further lines of main.cf
	Master    string            // further lines of master.cf
	Users     map[string]string // user@example.test to password, for services with SASL
	SizeLimit int64             // message_size_limit; 0: none
	Chain     []byte            // PEM of key and certificates, for services with TLS
	Wait      time.Duration     // bound of every wait of a test; default 20 s
}

// A Service is one listener, a line of master.cf.
type Service struct {
	Name    string   // for Server.Addr
	Host    string   // default 127.0.0.1
	Proxy   bool     // a PROXY header must come first
	SASL    bool     // offers AUTH PLAIN LOGIN CRAM-MD5, with no regard to TLS
	TLS     string   // "implicit", "starttls" or "starttls-optional", by Postfix itself; "": none
	Options []string // further "parameter=value" for this service
}

// A Server is a running Postfix.
type Server struct {
	dir   string
	addrs map[string]string
	wait  time.Duration

	launcher *exec.Cmd
	stdin    io.Closer
	stdout   *bufio.Reader

	mu   sync.Mutex
	read map[string]bool // maildir files that are in mail
	mail []Mail
	log  string // what was left of it at the end
}

//go:embed launch.sh
var launch string

// Users and groups of every Debian that own nothing. Postfix insists that the
// queue's owner and group are nobody else's, and not root.
const (
	queueOwner = "uucp"
	queueGroup = "news"
)

// Start runs Postfix until the test ends, and shows its log if the test fails.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	s, err := Run(config)
	if err != nil {
		t.Fatalf("postfix: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("postfix: %v", err)
		}
		if t.Failed() {
			t.Logf("postfix's log:\n%s", s.Log())
		}
	})
	return s
}

// Run is Start for callers without a test. They owe a Stop.
func Run(config Config) (*Server, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: Postfix's users must be able to reach it.
	dir, err := os.MkdirTemp("", "postfix")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, addrs: map[string]string{}, wait: config.Wait, read: map[string]bool{}}
	if s.wait == 0 {
		s.wait = 20 * time.Second
	}
	if err := s.prepare(config, root); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := s.launch(root); err != nil {
		s.Stop()
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start: %w; its log:\n%s", err, s.Log())
	}
	return s, nil
}

// Addr is where a service listens.
func (s *Server) Addr(service string) string {
	addr, ok := s.addrs[service]
	if !ok {
		panic("postfix: no service " + service)
	}
	return addr
}

// launch starts launch.sh, as root by sudo if need be, and waits until master
// listens.
func (s *Server) launch(root string) error {
	recipient := fmt.Sprint(recipientID())
	args := []string{"sh", "-c", launch, "launch", s.dir, root, queueOwner, queueGroup, recipient,
		debian.LibraryPath(root, filepath.Join(root, "usr/lib/postfix")), saslPath(root)}
	if os.Geteuid() != 0 {
		args = append([]string{"sudo", "-n"}, args...)
	}
	s.launcher = exec.Command(args[0], args[1:]...)
	s.launcher.Stderr = os.Stderr
	stdin, err := s.launcher.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := s.launcher.StdoutPipe()
	if err != nil {
		return err
	}
	s.stdin, s.stdout = stdin, bufio.NewReader(stdout)
	if err := s.launcher.Start(); err != nil {
		return fmt.Errorf("%w: Postfix can only be started by root, or by a user who has sudo", err)
	}
	if line, _ := s.stdout.ReadString('\n'); line != "started\n" {
		s.log = line
		// What master says before its log works is lost, and that is nearly
		// always that it cannot bind.
		return fmt.Errorf("master has ended at once: is one of %v taken?", slices.Collect(maps.Values(s.addrs)))
	}
	return nil
}

// Stop ends Postfix and all its processes, and removes its directory.
func (s *Server) Stop() error {
	if s.launcher == nil || s.launcher.Process == nil {
		return nil
	}
	s.stdin.Close()
	log, err := io.ReadAll(s.stdout)
	s.mu.Lock()
	s.log += string(log)
	s.mu.Unlock()
	return errors.Join(err, s.launcher.Wait())
}

// Log is what Postfix has logged so far. It is still there after Stop.
func (s *Server) Log() string {
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.log
	}
	return string(log)
}

// recipientID owns the mail: the caller, so that the test can read it, unless
// that is root, whom Postfix does not deliver to.
func recipientID() int {
	if id := os.Geteuid(); id != 0 {
		return id
	}
	return 65534 // nobody
}

func saslPath(root string) string {
	found, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*/sasl2"))
	return strings.Join(found, ":")
}
