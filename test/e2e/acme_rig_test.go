package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/loopback"
	"smtpseal/test/pebble"
)

// A site is an smtpseal whose certificates come by ACME.
type site struct {
	CA         *pebble.CA
	Server     string   // the backend's address
	Names      []string // default: hostname alone
	KeyTypes   string   // default: p256
	Challenges string   // default: http-01
	HTTP       string   // http_listen; default: where the CA looks
	ACME       string   // "key: value, …" of acme beside these
	Storage    string   // "key: value, …"; default: file, in a directory of its own
	TLS        string   // "key: value, …"
	Env        []string // NAME=VALUE beside our own
	Binary     string   // default: the one with the race detector
	Secrets    []string // what must be in no line of its log
}

// file writes the configuration and returns its path, and where it listens.
// Ports are chosen anew for each call, so that two processes can be alike.
func (s site) file(t *testing.T) (path string, addrs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	addrs = map[string]string{submissions: freeAddr(t), submission: freeAddr(t)}
	if s.Names == nil {
		s.Names = []string{hostname}
	}
	if s.KeyTypes == "" {
		s.KeyTypes = "p256"
	}
	if s.Challenges == "" {
		s.Challenges = "http-01"
	}
	if s.HTTP == "" {
		s.HTTP = s.CA.HTTPAddr()
	}
	if s.Storage == "" {
		s.Storage = fmt.Sprintf("type: file, path: %q", filepath.Join(dir, "storage"))
	}
	if s.Server == "" {
		s.Server = "127.0.0.1:1" // nobody: there is no mail in this test
	}
	path = filepath.Join(dir, "smtpseal.yaml")
	text := fmt.Sprintf(`hostname: %s
listeners:
  - {name: submissions, listen: %q, tls: implicit, backend: mta}
  - {name: submission, listen: %q, tls: starttls, backend: mta}
backends: {mta: {preset: postfix, servers: [%q], health: {interval: off}, relay_check: off}}
admin: {listen: off}
certificates: [{names: [%s], key_types: [%s]}]
acme: {email: ops@example.org, directory: %q, trusted_roots: %q, challenges: [%s], http_listen: %q, tls_alpn_listen: %q%s}
storage: {%s}
tls: {%s}
timeouts: {shutdown: 10s}
limits: {max_sessions: 2000, max_sessions_per_client: 2000}
log: {level: debug, format: json}
`, hostname, addrs[submissions], addrs[submission], s.Server, quoted(s.Names), s.KeyTypes, s.CA.DirectoryURL(), s.CA.RootsFile(),
		s.Challenges, s.HTTP, s.CA.TLSAddr(), more(s.ACME), s.Storage, s.TLS)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, addrs
}

func quoted(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, fmt.Sprintf("%q", name))
	}
	return strings.Join(all, ", ")
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// run starts the process, as start does, and returns when it says that it is
// ready, which is before it has any certificate.
func (s site) run(t *testing.T) *process {
	t.Helper()
	path, addrs := s.file(t)
	return s.runFile(t, path, addrs)
}

func (s site) runFile(t *testing.T, path string, addrs map[string]string) *process {
	t.Helper()
	p := &process{t: t, addrs: addrs, changed: make(chan struct{}), read: make(chan struct{})}
	if s.Binary == "" {
		s.Binary = binary
	}
	p.command = exec.Command(s.Binary, "run", "-c", path)
	p.command.Env = append(append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0"), s.Env...)
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go p.readLog(stderr)
	t.Cleanup(func() { // behind stop, when the log is whole
		sealed(t, p.log(), append(storedKeys(t, filepath.Join(filepath.Dir(path), "storage")), s.Secrets...))
	})
	t.Cleanup(p.stop)
	p.wait("the process to be ready", func() bool { return p.find("ready", nil) != nil })
	p.roots, p.rootFile = s.CA.IssuerRoots(), s.CA.IssuerFile()
	return p
}

// What the log says of an attempt that failed, without a certificate to serve
// and with one.
const (
	notObtained = "certificate not obtained: there is none to serve yet"
	notRenewed  = "certificate not renewed: the one in use is served"
)

// hup asks for an attempt now, whatever the back-off says.
func (p *process) hup() { p.command.Process.Signal(syscall.SIGHUP) }

// obtained waits until there is a certificate for each name.
func (p *process) obtained(names ...string) {
	p.t.Helper()
	for _, name := range names {
		p.wait("a certificate for "+name, func() bool {
			return p.find("certificate obtained", func(e entry) bool { return e.text("name") == name }) != nil
		})
	}
}

// leaf is the certificate that a client with that server name gets, verified.
func (p *process) leaf(listener, name string) (*x509.Certificate, error) {
	conn, err := p.shake(listener, &tls.Config{RootCAs: p.roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// shake dials and makes a handshake, behind STARTTLS where that is needed.
func (p *process) shake(listener string, config *tls.Config) (*tls.Conn, error) {
	raw, err := net.DialTimeout("tcp", p.addrs[listener], handshakeLimit)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(handshakeLimit))
	conn := tls.Client(raw, config)
	if listener != submissions {
		err = upgrade(raw)
	}
	if err == nil {
		err = conn.Handshake()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// handshakeLimit bounds a client's whole stay up to the end of the handshake,
// as the process's own limit does.
const handshakeLimit = 10 * time.Second

// upgrade speaks SMTP up to where a handshake begins.
func upgrade(conn net.Conn) error {
	for _, s := range []step{{"", "220"}, {"EHLO client.example\r\n", "250"}, {"STARTTLS\r\n", "220"}} {
		if err := exchange(conn, s); err != nil {
			return err
		}
	}
	return nil
}

// exchange says something and reads one reply, of as many lines as it has.
func exchange(conn net.Conn, s step) error {
	if _, err := conn.Write([]byte(s.say)); err != nil {
		return fmt.Errorf("say %q: %w", s.say, err)
	}
	var heard []byte
	b := make([]byte, 4096)
	for !whole(heard) {
		n, err := conn.Read(b)
		heard = append(heard, b[:n]...)
		if err != nil && !whole(heard) {
			return fmt.Errorf("behind %q heard %q: %w", s.say, heard, err)
		}
	}
	if !bytes.HasPrefix(heard, []byte(s.hear)) {
		return fmt.Errorf("behind %q heard %q, want %s", s.say, heard, s.hear)
	}
	return nil
}

// whole reports whether the last line of a reply is there (RFC 5321 section
// 4.2.1: a hyphen behind the code says that more follows).
func whole(heard []byte) bool {
	if !bytes.HasSuffix(heard, []byte("\r\n")) {
		return false
	}
	last := heard[bytes.LastIndexByte(heard[:len(heard)-2], '\n')+1:]
	return len(last) < 6 || last[3] != '-'
}

// until asks again and again, at most for so long.
func until(t *testing.T, what string, atMost time.Duration, done func() bool) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(atMost); !done(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", atMost, what)
		}
	}
}

// serial is a certificate's number as logs and commands write it.
func serial(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

// An outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// command runs smtpseal to its end. Nothing secret may be in what it prints.
func command(t *testing.T, secrets []string, args ...string) outcome {
	t.Helper()
	c := exec.Command(binary, args...)
	c.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	return finish(t, c, secrets)
}

func finish(t *testing.T, c *exec.Cmd, secrets []string) outcome {
	t.Helper()
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	var late atomic.Bool
	timer := time.AfterFunc(60*time.Second, func() { late.Store(true); c.Process.Signal(syscall.SIGQUIT) })
	err := c.Run()
	timer.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", c.Args, err)
	}
	o := outcome{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if late.Load() || strings.Contains(o.stderr, "DATA RACE") {
		t.Fatalf("%v: exit %d, did not end within 60 s or has a race:\n%s", c.Args, o.code, tail(o.stderr, 16<<10))
	}
	sealed(t, o.stdout+o.stderr, secrets)
	return o
}
