// Package bind runs a real BIND (named) for tests: in the foreground, in a
// directory of its own, on a free loopback port by UDP and TCP, from the
// packages that test/install.sh has unpacked. It needs no root, and as root no
// user of its own; it touches nothing of the machine.
//
// A server holds the zones that a test gives it: primary ones with an
// update-policy, secondary ones, and forwarded ones, which make it a resolver
// with a cache.
package bind

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/loopback"

	"smtpseal/test/debian"
)

// A Config says what BIND to run.
type Config struct {
	Zones []Zone
	Keys  []Key
}

// A Zone is one that a server holds. Its names are without a dot at the end.
type Zone struct {
	Name string

	// For a primary: further lines of the zone file, names relative to the zone;
	// who may change it, such as "grant acme. zonesub TXT" (a key's name ends in a
	// dot); its servers, relative name to address, default ns at 127.0.0.1.
	Records string
	Policy  []string
	Servers map[string]string

	// Primary, the address of another server, makes this a secondary zone. It
	// copies the zone at its start and when it is told to (Notify), not by itself.
	Primary string

	// Forward, the address of another server, makes this server a resolver that
	// asks there, and remembers the answers.
	Forward string
}

// A Key is a TSIG key.
type Key struct {
	Name      string // acme
	Algorithm string // hmac-sha256
	Secret    string // base64
}

// A Server is a running BIND.
type Server struct {
	dir   string
	addr  string
	zones []Zone

	mu      sync.Mutex
	process *exec.Cmd // nil: not running
	ended   chan struct{}
}

const (
	patience = 20 * time.Second // bounds every wait for named
	shown    = 8 << 10          // octets of its log that a failed test shows
)

// Start runs BIND until the test ends, and shows its log if the test fails.
func Start(t testing.TB, config Config) *Server {
	t.Helper()
	s, err := run(t.TempDir(), config)
	if err != nil {
		t.Fatalf("bind: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("bind: %v", err)
		}
		if t.Failed() {
			log := s.Log()
			t.Logf("the end of BIND's log (%s):\n%s", s.addr, log[max(0, len(log)-shown):])
		}
	})
	return s
}

// run tries a few ports: one that is free for TCP may be taken for UDP.
func run(dir string, config Config) (*Server, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	for attempt := range 3 {
		s := &Server{dir: filepath.Join(dir, fmt.Sprint("named", attempt)), zones: config.Zones}
		if s.addr, err = loopback.Free("127.0.0.1"); err != nil {
			return nil, err
		}
		if err := s.write(config); err != nil {
			return nil, err
		}
		if err = s.launch(root); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Addr is where it listens, by UDP and TCP.
func (s *Server) Addr() string { return s.addr }

// launch starts named and waits until it answers for all its zones.
func (s *Server) launch(root string) error {
	process := exec.Command(filepath.Join(root, "usr/sbin/named"), "-f", "-c", filepath.Join(s.dir, "named.conf"), "-n", "1", "-U", "1")
	process.Dir = s.dir
	process.Env = []string{"LD_LIBRARY_PATH=" + debian.LibraryPath(root), "LC_ALL=C", "TZ=UTC"}
	// It cannot outlive the test. A group of its own, so that Ctrl-C at the test
	// is not for it.
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	early, err := os.Create(filepath.Join(s.dir, "early.log")) // what it says before its log works
	if err != nil {
		return err
	}
	defer early.Close()
	process.Stdout, process.Stderr = early, early
	if err := process.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.process, s.ended = process, make(chan struct{})
	s.mu.Unlock()
	go s.reap(process, s.ended)
	if err := s.ready(); err != nil {
		return errors.Join(err, s.Stop(), errors.New(s.Log()))
	}
	return nil
}

func (s *Server) reap(process *exec.Cmd, ended chan struct{}) {
	process.Wait()
	close(ended)
}

// Again starts the server after a Stop, with the zones as they were, on its
// port.
func (s *Server) Again() error {
	root, err := debian.Root()
	if err != nil {
		return err
	}
	return s.launch(root)
}

// Stop ends the server; a second time does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	process := s.process.Process
	s.process = nil
	process.Signal(syscall.SIGCONT)
	process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return nil
	case <-time.After(patience):
		process.Kill()
		<-s.ended
		return fmt.Errorf("named did not end in %s", patience)
	}
}

// Freeze makes the server silent: its port is open, and nobody answers. Thaw
// undoes it.
func (s *Server) Freeze() {
	pid := s.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(patience); !stopped(pid) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}

// stopped looks at every thread: the signal reaches them one by one (proc(5)).
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return !slices.ContainsFunc(threads, func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && !strings.Contains(string(stat), ") T ")
	})
}

// Thaw lets a frozen server go on, with what has come in meanwhile.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) (pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	s.process.Process.Signal(signal)
	return s.process.Process.Pid
}

// Log is what named has logged so far, every query included.
func (s *Server) Log() string {
	early, _ := os.ReadFile(filepath.Join(s.dir, "early.log"))
	log, _ := os.ReadFile(filepath.Join(s.dir, "named.log"))
	return string(early) + string(log)
}

// Queries are the lines of the log about queries for a name and type, such as
// "_acme-challenge.example.test" and "TXT".
func (s *Server) Queries(name, kind string) []string {
	var found []string
	for line := range strings.Lines(s.Log()) {
		if strings.Contains(line, "query: "+name+" IN "+kind+" ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
