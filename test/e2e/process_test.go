package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/loopback"
)

// hostname is the proxy's, and on its certificate.
const hostname = "mail.example.test"

// The listeners of every process.
const (
	submissions = "submissions" // implicit
	submission  = "submission"  // starttls
	mx          = "mx"          // starttls-optional
)

// A setup is what a test may say about its smtpseal.
type setup struct {
	Server   string // the backend's address
	Backend  string // "key: value, …" of the backend beside preset and servers
	Listener string // "key: value, …" of each listener
	Host     string // of the listeners; default 127.0.0.1
	Timeouts string // "key: value, …"
	Limits   string // "key: value, …"
}

// A process is a running smtpseal.
type process struct {
	t        *testing.T
	command  *exec.Cmd
	addrs    map[string]string
	admin    string // address of its admin listener
	roots    *x509.CertPool
	rootFile string
	idle     int // descriptors before any session

	terminated sync.Once

	mu      sync.Mutex
	raw     bytes.Buffer // standard error, whole
	lines   []entry
	changed chan struct{}
	read    chan struct{} // closed when standard error has ended
}

// An entry is one line of the log.
type entry map[string]any

func (e entry) text(key string) string { s, _ := e[key].(string); return s }

func (e entry) number(key string) float64 { n, _ := e[key].(float64); return n }

// start runs smtpseal until the test ends. It fails the test if the process
// has not served by then to the end: exit 0 on TERM, no race, no panic, no
// password in its log.
func start(t *testing.T, s setup) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, addrs: map[string]string{}, changed: make(chan struct{}), read: make(chan struct{})}
	file := filepath.Join(dir, "smtpseal.yaml")
	if err := os.WriteFile(file, []byte(p.config(s, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(file)
	p.rootFile = filepath.Join(dir, "storage", "internal", "root.crt")
	pem, err := os.ReadFile(p.rootFile)
	if err != nil {
		t.Fatalf("the internal CA's root: %v", err)
	}
	p.roots = x509.NewCertPool()
	if !p.roots.AppendCertsFromPEM(pem) {
		t.Fatalf("the internal CA's root is no certificate")
	}
	p.idle = p.descriptors()
	return p
}

// run starts the process with a configuration, until the test ends, and returns
// when it is ready.
func (p *process) run(file string) {
	p.t.Helper()
	p.command = exec.Command(binary, "run", "-c", file)
	p.command.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that panics stops nothing
	stderr, err := p.command.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	go p.readLog(stderr)
	p.t.Cleanup(p.stop)
	p.wait("the process to be ready", func() bool { return p.find("ready", nil) != nil })
}

func (p *process) config(s setup, dir string) string {
	if s.Host == "" {
		s.Host = "127.0.0.1"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "hostname: %s\nlisteners:\n", hostname)
	p.admin = freeAddr(p.t)
	for name, mode := range map[string]string{submissions: "implicit", submission: "starttls", mx: "starttls-optional"} {
		addr, err := loopback.Free(s.Host)
		if err != nil {
			p.t.Fatal(err)
		}
		p.addrs[name] = addr
		fmt.Fprintf(&text, "  - {name: %s, listen: %q, tls: %s, backend: mta%s}\n", name, addr, mode, more(s.Listener))
	}
	// Nobody but the test asks the mail server, unless it wants just that.
	for _, key := range []string{"health: {interval: off}", "relay_check: off"} {
		if name, _, _ := strings.Cut(key, " "); !strings.Contains(s.Backend, name) {
			s.Backend = strings.TrimPrefix(s.Backend+", "+key, ", ")
		}
	}
	fmt.Fprintf(&text, "backends:\n  mta: {preset: postfix, servers: [%q]%s}\n", s.Server, more(s.Backend))
	fmt.Fprintf(&text, "admin: {listen: %q}\n", p.admin)
	fmt.Fprintf(&text, "certificates:\n  - {names: [%s], internal: true}\n", hostname)
	fmt.Fprintf(&text, "storage: {type: file, path: %q}\n", filepath.Join(dir, "storage"))
	fmt.Fprintf(&text, "timeouts: {shutdown: 10s%s}\n", more(s.Timeouts))
	// Below the default, which asks for more descriptors than some machines have.
	if !strings.Contains(s.Limits, "max_sessions:") {
		s.Limits = "max_sessions: 4000" + more(s.Limits)
	}
	fmt.Fprintf(&text, "limits: {%s}\n", s.Limits)
	text.WriteString("log: {level: debug, format: json}\n")
	return text.String()
}

func more(items string) string {
	if items == "" {
		return ""
	}
	return ", " + items
}

// readLog keeps standard error and wakes whoever waits for a line of it.
func (p *process) readLog(stderr io.Reader) {
	defer close(p.read)
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		var e entry
		parsed := json.Unmarshal(line, &e) == nil
		p.mu.Lock()
		p.raw.Write(line)
		if parsed {
			p.lines = append(p.lines, e)
		}
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns once done, which is asked again after every line of the log.
func (p *process) wait(what string, done func() bool) {
	p.t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-changed:
		case <-p.read:
			if !done() {
				p.t.Fatalf("smtpseal ended while the test waited for %s:\n%s", what, p.log())
			}
			return
		case <-timeout.C:
			p.t.Fatalf("waited 20 s for %s; the log:\n%s", what, tail(p.log(), 8<<10))
		}
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raw.String()
}

// find returns the first line with a message that ok likes, or nil.
func (p *process) find(message string, ok func(entry) bool) entry {
	for _, e := range p.all(message) {
		if ok == nil || ok(e) {
			return e
		}
	}
	return nil
}

func (p *process) all(message string) []entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []entry
	for _, e := range p.lines {
		if e.text("message") == message {
			found = append(found, e)
		}
	}
	return found
}

// session returns the log line of the session of a client.
func (p *process) session(client net.Addr) entry {
	p.t.Helper()
	var found entry
	p.wait("the log line of "+client.String(), func() bool {
		found = p.find("session closed", func(e entry) bool { return e.text("client") == client.String() })
		return found != nil
	})
	return found
}

// tls is what a client expects of the proxy.
func (p *process) tls() *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: hostname}
}

// descriptors counts the open files of the process.
func (p *process) descriptors() int {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
	if err != nil {
		p.t.Fatalf("descriptors: %v", err)
	}
	return len(open)
}

// settle returns once the process holds no more descriptors than before its
// first session.
func (p *process) settle() {
	p.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); p.descriptors() > p.idle; <-again.C {
		if time.Now().After(end) {
			links := &strings.Builder{}
			dir := fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid)
			open, _ := os.ReadDir(dir)
			for _, fd := range open {
				link, _ := os.Readlink(filepath.Join(dir, fd.Name()))
				fmt.Fprintln(links, fd.Name(), link)
			}
			p.t.Fatalf("%d descriptors, %d when idle:\n%s", len(open), p.idle, links)
		}
	}
}

// terminate asks the process to end, once: a second time would mean at once.
func (p *process) terminate() {
	p.terminated.Do(func() { p.command.Process.Signal(syscall.SIGTERM) })
}

// stop ends the process as its users do and looks at what it leaves.
func (p *process) stop() {
	p.terminate()
	select {
	case <-p.read:
	case <-time.After(30 * time.Second):
		p.command.Process.Signal(syscall.SIGQUIT) // for the stacks
		<-p.read
		p.t.Errorf("did not end within 30 s of TERM:\n%s", tail(p.log(), 64<<10))
	}
	err := p.command.Wait()
	log := p.log()
	if err != nil || strings.Contains(log, "DATA RACE") {
		p.t.Errorf("smtpseal: %v\n%s", err, tail(log, 16<<10))
	}
	if p.find("session failed: this is a defect, please report it", nil) != nil || strings.Contains(log, `"outcome":"internal"`) {
		p.t.Errorf("a session failed:\n%s", tail(log, 16<<10))
	}
	for _, secret := range secrets() {
		if strings.Contains(log, secret) {
			p.t.Errorf("the log has the secret %q", secret)
		}
	}
	if p.t.Failed() {
		p.t.Logf("the log:\n%s", tail(log, 8<<10))
	}
}

// secrets are the forms in which the password passes through.
func secrets() []string {
	encode := base64.StdEncoding.EncodeToString
	return []string{
		password, encode([]byte(password)), encode([]byte("\x00" + user + "\x00" + password)),
		encode([]byte(user)), // LOGIN's first answer
	}
}
