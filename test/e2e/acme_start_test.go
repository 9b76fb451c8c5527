package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/pebble"
	"smtpseal/test/postgres"
	"smtpseal/test/redis"
	"smtpseal/test/talk"
)

// A start without network serves what is in the storage, from the first client
// on.
func TestStartWithoutNetworkServesWhatIsStored(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	s := site{CA: ca, Storage: fmt.Sprintf("type: file, path: %q", filepath.Join(t.TempDir(), "storage"))}
	first := s.run(t)
	first.obtained(hostname)
	before, err := first.leaf(submissions, hostname)
	if err != nil {
		t.Fatal(err)
	}
	first.terminate()
	<-first.read
	if err := ca.Down(); err != nil {
		t.Fatal(err)
	}
	second := s.run(t)
	for _, listener := range []string{submissions, submission} {
		after, err := second.leaf(listener, hostname)
		if err != nil {
			t.Fatalf("%s: %v", listener, err)
		}
		if serial(after) != serial(before) {
			t.Errorf("%s: serial %s, had %s", listener, serial(after), serial(before))
		}
	}
	if n := ca.FinalizedOrders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// Without any certificate a client is sent away politely, and no door looks as
// if it could be used. When the CA is back, so is the service.
func TestStartWithoutAnyCertificateHeals(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	if err := ca.Down(); err != nil {
		t.Fatal(err)
	}
	p := site{CA: ca}.run(t)
	p.unserved(t)
	p.wait("a failure", func() bool { return p.find(notObtained, nil) != nil })
	if e := p.find(notObtained, nil); e.text("remedy") == "" || e.text("level") != "error" {
		t.Errorf("the operator is told %v", e)
	}
	if p.find("certificate missing or not renewed", nil) == nil {
		t.Error("nothing said at the start")
	}
	p.unserved(t)
	if err := ca.Up(); err != nil {
		t.Fatal(err)
	}
	p.heals(t)
}

// unserved checks that there is no TLS to be had.
func (p *process) unserved(t *testing.T) {
	t.Helper()
	if leaf, err := p.leaf(submissions, hostname); err == nil {
		t.Errorf("465 serves %v without a certificate", leaf.DNSNames)
	}
	c := talk.With(t, p.dial(t, submission, ""))
	c.Play("<< 220\n> EHLO client.example")
	if offers := c.ExpectReply("250"); slices.ContainsFunc(offers, func(l string) bool { return strings.Contains(l, "STARTTLS") }) {
		t.Errorf("587 offers %q", offers)
	}
	c.Play("> STARTTLS\n<< 454 4.7.0\n> QUIT\n<< 221\n< END")
}

// heals waits until both doors serve, and asks for attempts meanwhile: the
// back-off may be at a minute.
func (p *process) heals(t *testing.T) {
	t.Helper()
	until(t, "a certificate", 20*time.Second, func() bool {
		p.hup()
		time.Sleep(200 * time.Millisecond)
		_, err := p.leaf(submissions, hostname)
		return err == nil
	})
	if _, err := p.leaf(submission, hostname); err != nil {
		t.Errorf("587: %v", err)
	}
}

// A storage over the network that is away at the start is a wait, and so is one
// that goes: what was served is served on.
func TestStorageAwayAtTheStart(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"redis", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			store := openStore(t, kind)
			if err := store.stop(); err != nil {
				t.Fatal(err)
			}
			ca := pebble.Start(t, pebble.Options{})
			p := site{CA: ca, Storage: store.settings, Secrets: store.secrets}.run(t)
			p.unserved(t)
			if err := store.again(); err != nil {
				t.Fatal(err)
			}
			p.heals(t)
			if err := store.stop(); err != nil {
				t.Fatal(err)
			}
			p.hup()
			p.wait("word of the outage", func() bool {
				return len(p.all("storage cannot be read: the certificate that is held is served")) > 1
			})
			if _, err := p.leaf(submissions, hostname); err != nil {
				t.Errorf("without its storage: %v", err)
			}
			if err := store.again(); err != nil {
				t.Fatal(err)
			}
			p.hup()
			p.wait("word of its end", func() bool { return len(p.all("storage can be read again")) > 1 })
			if n := ca.FinalizedOrders(); n != 1 {
				t.Errorf("%d orders", n)
			}
		})
	}
}

// A networkStore is a real server that processes share.
type networkStore struct {
	settings    string // of storage, "key: value, …"
	secrets     []string
	stop, again func() error
}

const encryptionKey = "6f0c1d7be2ab4c8f9a3e5d60718293a4b5c6d7e8f90a1b2c3d4e5f6071829304"

// openStore starts one, with values encrypted. Its URL, which has the password
// in it, is in a file, as operators have it.
func openStore(t *testing.T, kind string) networkStore {
	t.Helper()
	var s networkStore
	url, secret := "", ""
	switch kind {
	case "redis":
		r := redis.Start(t, redis.Config{})
		url, secret, s.stop, s.again = r.URL(), redis.Password, r.Stop, r.Again
	case "postgres":
		r := postgres.Start(t)
		url, secret, s.stop, s.again = r.URL(), postgres.Password, r.Stop, r.Again
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"url": url, "key": encryptionKey} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.settings = fmt.Sprintf("type: %s, url: 'file:%s/url', encryption_key: 'file:%[2]s/key'", kind, dir)
	// As it is, and as a URL has it.
	_, escaped, _ := strings.Cut(url, "://")
	_, escaped, _ = strings.Cut(escaped, ":")
	escaped, _, _ = strings.Cut(escaped, "@")
	s.secrets = []string{secret, escaped, encryptionKey}
	return s
}

// What only an operator can mend ends the start, with words that say how.
func TestStartsThatOnlyAnOperatorCanMend(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	taken, err := net.Listen("tcp", ca.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	occupied := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		site  site
		words []string
	}{
		{"http-01 port taken", site{}, []string{ca.HTTPAddr(), "address already in use", "[dns-01]", "ss -ltnp"}},
		{"storage below a file", site{Challenges: "tls-alpn-01", Storage: fmt.Sprintf("type: file, path: %q", occupied)},
			[]string{occupied, "not a directory", "storage.path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.site.CA = ca
			path, _ := c.site.file(t)
			o := command(t, nil, "run", "-c", path)
			o.mustFail(t, c.words...)
		})
	}
}

// The directory is there, and belongs to another: as after a copy by root.
func TestStorageThatIsNotWritable(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "unwritable") // not t.TempDir, whose parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path, _ := site{CA: pebble.Start(t, pebble.Options{}), Storage: fmt.Sprintf("type: file, path: '%s/storage'", dir)}.file(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "smtpseal.yaml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "storage"), 0o555); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(binary, filepath.Join(dir, "smtpseal")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(dir, "smtpseal"), "run", "-c", filepath.Join(dir, "smtpseal.yaml"))
	c.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	c.Dir = dir
	if os.Getuid() == 0 { // who may write everywhere
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	finish(t, c, nil).mustFail(t, dir+"/storage", "permission denied", "must belong to")
}

// mustFail checks the end of a command that failed, and its words.
func (o outcome) mustFail(t *testing.T, words ...string) {
	t.Helper()
	if o.code != 1 {
		t.Errorf("exit %d", o.code)
	}
	for _, word := range words {
		if !strings.Contains(o.stderr, word) {
			t.Errorf("standard error lacks %q", word)
		}
	}
	if t.Failed() {
		t.Logf("standard error:\n%s", o.stderr)
	}
}
