package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/admin"
)

// A tree is a configuration as it is written: YAML takes JSON as it is.
type tree = map[string]any

// list is a list in it.
type list = []any

// writeTree writes one as a whole, as editors and package managers do.
func writeTree(t *testing.T, file string, c tree) {
	t.Helper()
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, file, text, 0o600)
}

func replaceFile(t *testing.T, file string, text []byte, mode os.FileMode) {
	t.Helper()
	next := file + ".next"
	if err := os.WriteFile(next, text, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// copyTree returns one that can be changed.
func copyTree(c tree) tree {
	text, _ := json.Marshal(c) // it is made of what JSON has
	var copied tree
	json.Unmarshal(text, &copied)
	return copied
}

// edit changes what a path of keys and indices names; nil removes it.
func edit(c tree, path string, value any) {
	keys := strings.Split(path, ".")
	var at any = c
	for _, key := range keys[:len(keys)-1] {
		switch inner := at.(type) {
		case tree:
			if inner[key] == nil {
				inner[key] = tree{}
			}
			at = inner[key]
		case list:
			i, _ := strconv.Atoi(key)
			at = inner[i]
		}
	}
	last := keys[len(keys)-1]
	switch inner := at.(type) {
	case tree:
		if inner[last] = value; value == nil {
			delete(inner, last)
		}
	case list:
		i, _ := strconv.Atoi(last)
		inner[i] = value
	}
}

// spawn runs a command, smtpseal or what becomes it, whose log the test reads.
// What replaces the process by an upgrade is ended with it, whatever becomes of
// the test.
func spawn(t *testing.T, c *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, addrs: map[string]string{}, changed: make(chan struct{}), read: make(chan struct{}), command: c}
	c.Env = append(append(os.Environ(), c.Env...), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	guard(t, c.Process.Pid)
	go p.readLog(stderr)
	t.Cleanup(p.stop)
	t.Cleanup(p.endSuccessors)
	return p
}

// guard kills a group of processes when this one dies. At the end of the test
// nothing of the group is left, and the guard goes first.
func guard(t *testing.T, group int) {
	t.Helper()
	c := exec.Command("sh", "-c", `read -r line; kill -9 -- -"$1"`, "guard", strconv.Itoa(group))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		in.Close()
	})
}

const upgraded = "upgrade: the new process serves, this one drains"

// pid is that of the process that serves now.
func (p *process) pid() int {
	pid := p.command.Process.Pid
	if all := p.all(upgraded); len(all) > 0 {
		pid = int(all[len(all)-1].number("new_pid"))
	}
	return pid
}

// endSuccessors asks the last process to end, if it has not. The first is
// ended by stop.
func (p *process) endSuccessors() {
	select {
	case <-p.read:
	default:
		if pid := p.pid(); pid != p.command.Process.Pid {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

// ask asks the admin listener.
func (p *process) ask() *admin.Client { return clientOf(p.admin) }

func clientOf(addr string) *admin.Client {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return &admin.Client{Network: "unix", Addr: path}
	}
	return &admin.Client{Network: "tcp", Addr: addr}
}

func (p *process) status(t *testing.T) admin.Status {
	t.Helper()
	status, err := p.ask().Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v\n%s", err, tail(p.log(), 4<<10))
	}
	return status
}

// metric reads one series.
func (p *process) metric(t *testing.T, series string) int {
	t.Helper()
	client := p.ask()
	out, err := exec.Command("curl", "-sS", "--max-time", "20", "http://"+client.Addr+"/metrics").Output()
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(number)
		}
	}
	t.Fatalf("no %s in the metrics:\n%s", series, out)
	return 0
}

// A root signs certificates for a test.
type root struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int64
}

func newRoot(t *testing.T) *root {
	t.Helper()
	r := &root{dir: t.TempDir()}
	var err error
	if r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root of a test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, r.key.Public(), r.key)
	if err == nil {
		r.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, r.file(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	return r
}

// file has the root itself.
func (r *root) file() string { return filepath.Join(r.dir, "root.pem") }

// pair makes a certificate and key for names, and their files.
func (r *root) pair(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	r.made++
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1000 + r.made), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, private.Public(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = filepath.Join(r.dir, fmt.Sprintf("%d.crt", r.made))
	key = filepath.Join(r.dir, fmt.Sprintf("%d.key", r.made))
	replaceFile(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	replaceFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	return cert, key
}

// resumer is a client that comes again with its ticket.
type resumer struct {
	addr   string
	config *tls.Config
}

func newResumer(addr string, roots *x509.CertPool) resumer {
	return resumer{addr, &tls.Config{RootCAs: roots, ServerName: hostname, ClientSessionCache: tls.NewLRUClientSessionCache(1)}}
}

// come reports whether the ticket of the time before was taken. The ticket of
// this time has come with the greeting.
func (r resumer) come(t *testing.T) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", r.addr, r.config)
	if err != nil {
		t.Fatalf("a client with a ticket: %v", err)
	}
	defer conn.Close()
	if err := newStayer(conn).ask("", "220", "QUIT\r\n", "221"); err != nil {
		t.Fatalf("a client with a ticket: %v", err)
	}
	return conn.ConnectionState().DidResume
}

// copyDir copies a storage as it lies there.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
}

// reloadBy runs smtpseal reload to its end.
func reloadBy(t *testing.T, file string) outcome {
	t.Helper()
	return command(t, nil, "reload", "-c", file)
}
