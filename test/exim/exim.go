// Package exim runs a real Exim for tests: with the configuration that Debian
// gives it, in a directory of its own, on loopback, from packages that
// test/install.sh has unpacked.
//
// It touches nothing of the machine, and needs neither root nor the user
// Debian-exim: a library that is loaded before all others answers who that is.
// All mail for @example.test goes to one maildir; all other mail that it
// accepts is thrown away.
package exim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/debian"
)

// Domain is the one for which mail is delivered.
const Domain = "example.test"

// A Config says what Exim to run.
type Config struct {
	// Local is the text of exim4.conf.localmacros. It must say on which ports
	// Exim listens, on 127.0.0.1 and ::1: 25 is not for a test.
	Local string
	Users map[string]string // user@example.test to password, by PLAIN and LOGIN
}

// A Server is a running Exim.
type Server struct {
	dir     string
	process *exec.Cmd
	ended   chan struct{}
}

// patience bounds every wait for Exim.
const patience = 20 * time.Second

// Start runs Exim until the test ends, and shows its log if the test fails.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	s, err := run(config)
	if err != nil {
		t.Fatalf("exim: %v", err)
	}
	t.Cleanup(func() {
		log := s.Log()
		if err := s.stop(); err != nil {
			t.Errorf("exim: %v", err)
		}
		if t.Failed() {
			t.Logf("exim's log:\n%s", log)
		}
	})
	return s
}

func run(config Config) (*Server, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: nobody must be able to reach it.
	dir, err := os.MkdirTemp("", "exim")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, ended: make(chan struct{})}
	if err := s.prepare(config, root); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.launch(root); err != nil {
		err = fmt.Errorf("start: %w; its log:\n%s", err, s.Log())
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// launch starts the daemon in the foreground, and waits until it listens.
func (s *Server) launch(root string) error {
	early, err := os.Create(s.file("early.log")) // what it says before its log works
	if err != nil {
		return err
	}
	defer early.Close()
	s.process = exec.Command(s.file("exim4"), "-C", s.file("exim4.conf"), "-bdf", "-q1h")
	s.process.Dir = s.dir
	s.process.Env = s.environment(root)
	s.process.Stdout, s.process.Stderr = early, early
	// It cannot outlive the test. A group of its own has its children in it, too.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if uid := owner(); uid != os.Geteuid() {
		s.process.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	if err := s.process.Start(); err != nil {
		s.process = nil
		return err
	}
	go s.reap()
	return s.await("its start", func() bool { return strings.Contains(s.Log(), "listening for SMTP") })
}

func (s *Server) reap() {
	s.process.Wait()
	close(s.ended)
}

// environment has what Exim needs to find its libraries and its user.
func (s *Server) environment(root string) []string {
	return []string{
		"LD_LIBRARY_PATH=" + debian.LibraryPath(root, filepath.Join(root, "usr/lib")),
		"LD_PRELOAD=libnss_wrapper.so",
		"NSS_WRAPPER_PASSWD=" + s.file("passwd"), "NSS_WRAPPER_GROUP=" + s.file("group"),
		"LC_ALL=C", "TZ=UTC",
	}
}

// stop ends Exim and all its processes, and removes its directory.
func (s *Server) stop() error {
	if s.process != nil {
		s.process.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(patience):
		}
		syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL) // and sessions that are still up
		<-s.ended
	}
	return os.RemoveAll(s.dir)
}

// Log is what Exim has logged so far.
func (s *Server) Log() string {
	var all strings.Builder
	for _, name := range []string{"early.log", "paniclog", "mainlog"} {
		text, _ := os.ReadFile(s.file(name))
		all.Write(text)
	}
	return all.String()
}

// WaitLog returns the first line of the log that matches.
func (s *Server) WaitLog(t testing.TB, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile("(?m)^.*(?:" + pattern + ").*$")
	var found string
	if err := s.await("log line "+pattern, func() bool {
		found = wanted.FindString(s.Log())
		return found != ""
	}); err != nil {
		t.Fatalf("exim: %v", err)
	}
	return found
}

// WaitMail returns the text of the mail delivered to a recipient, with LF for
// CRLF, behind the headers that Exim has put in front. A test that sends
// several gives each a recipient of its own.
func (s *Server) WaitMail(t testing.TB, recipient string) string {
	t.Helper()
	var found string
	if err := s.await("mail for "+recipient, func() bool {
		files, _ := filepath.Glob(s.file("mail/new/*"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(text), "\nEnvelope-to: "+recipient+"\n") {
				found = string(text)
			}
		}
		return found != ""
	}); err != nil {
		t.Fatalf("exim: %v", err)
	}
	return found
}

// await asks again and again: neither a maildir nor a log can be waited for
// without asking.
func (s *Server) await(what string, done func() bool) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); !done(); {
		select {
		case <-s.ended:
			return fmt.Errorf("ended before %s", what)
		case <-again.C:
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s", patience, what)
		}
	}
	return nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }
