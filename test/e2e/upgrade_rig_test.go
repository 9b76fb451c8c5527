package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/mta"
)

// An upgradeRig is an smtpseal whose program file can be replaced.
type upgradeRig struct {
	*process
	server *mta.Server
	file   string // its configuration
	conf   tree
	dir    string
	root   *root
}

// prepareUpgrade writes all that a process needs. What may be reached by TCP is
// submissions and submission; local is a unix socket that believes its peers.
func prepareUpgrade(t *testing.T) *upgradeRig {
	t.Helper()
	r := &upgradeRig{server: mta.Start(t, mta.Config{Proxy: mta.V2}), dir: t.TempDir(), root: newRoot(t)}
	r.file = filepath.Join(r.dir, "smtpseal.yaml")
	r.replaceProgram(t, binary)
	cert, key := r.root.pair(t, hostname)
	r.conf = tree{
		"hostname": hostname,
		"listeners": list{
			tree{"name": submissions, "listen": freeAddr(t), "tls": "implicit", "backend": "mta"},
			tree{"name": submission, "listen": freeAddr(t), "tls": "starttls", "backend": "mta"},
			tree{"name": "local", "listen": "unix:" + r.path("mail.sock"), "tls": "implicit", "backend": "mta", "accept_proxy": list{"unix"}},
		},
		"backends":     tree{"mta": tree{"preset": "postfix", "servers": list{r.server.Addr()}, "health": tree{"interval": "off"}, "relay_check": "off"}},
		"certificates": list{tree{"cert_file": cert, "key_file": key}},
		"admin":        tree{"listen": list{freeAddr(t), "unix:" + r.path("admin.sock")}},
		"timeouts":     tree{"shutdown": "30s"},
		"limits":       tree{"max_sessions": 2000, "max_sessions_per_client": 2000},
		"log":          tree{"level": "info", "format": "json"},
	}
	return r
}

func (r *upgradeRig) path(name string) string { return filepath.Join(r.dir, name) }

// program is the file that is run, and run again by an upgrade.
func (r *upgradeRig) program() string { return r.path("smtpseal") }

func (r *upgradeRig) replaceProgram(t *testing.T, by string) {
	t.Helper()
	text, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, r.program(), text, 0o755)
}

func (r *upgradeRig) script(t *testing.T, text string) {
	t.Helper()
	replaceFile(t, r.program(), []byte("#!/bin/sh\n"+text+"\n"), 0o755)
}

// start runs it, or what will become it, until it is ready.
func (r *upgradeRig) start(t *testing.T, env []string, before ...string) {
	t.Helper()
	writeTree(t, r.file, r.conf)
	args := append(before, r.program(), "run", "-c", r.file)
	c := exec.Command(args[0], args[1:]...)
	c.Env = env
	r.process = spawn(t, c)
	r.roots = x509.NewCertPool()
	r.roots.AddCert(r.root.cert)
	r.rootFile = r.root.file()
	for _, one := range r.conf["listeners"].(list) {
		l := one.(tree)
		r.addrs[l["name"].(string)], _ = l["listen"].(string)
	}
	switch admin := r.conf["admin"].(tree)["listen"].(type) {
	case string:
		r.admin = admin
	case list:
		r.admin = admin[0].(string)
	}
}

func (r *upgradeRig) ready(t *testing.T) {
	t.Helper()
	r.wait("the process to be ready", func() bool { return r.find("ready", nil) != nil })
}

// upgrade asks for a new process, and returns when it serves.
func (r *upgradeRig) upgrade(t *testing.T) {
	t.Helper()
	before, n := r.pid(), len(r.all(upgraded))
	syscall.Kill(before, syscall.SIGUSR2)
	r.wait("the new process to serve", func() bool { return len(r.all(upgraded)) > n })
	if after := r.pid(); after == before || after == 0 {
		t.Errorf("process %d behind %d", after, before)
	}
}

// refuseUpgrade asks for a new process that does not come to serve, and
// returns what the log says.
func (r *upgradeRig) refuseUpgrade(t *testing.T, says string, meanwhile func()) {
	t.Helper()
	const message = "upgrade failed: this process goes on"
	n, pid := len(r.all(message)), r.pid()
	syscall.Kill(pid, syscall.SIGUSR2)
	if meanwhile != nil {
		meanwhile()
	}
	until(t, "the upgrade to fail", 90*time.Second, func() bool { return len(r.all(message)) > n })
	if got := r.all(message)[n].text("error"); !strings.Contains(got, says) {
		t.Errorf("the log says %q, want %q", got, says)
	}
	if r.pid() != pid {
		t.Errorf("process %d behind %d", r.pid(), pid)
	}
	r.serves(t)
}

// serves sends a mail through every door.
func (r *upgradeRig) serves(t *testing.T) {
	t.Helper()
	for _, listener := range []string{submissions, submission} {
		if r.addrs[listener] == "" {
			continue
		}
		c := r.open(t, listener, "")
		c.greet()
		c.deliver(mail{to: "someone@example.test", body: []byte("Subject: by the way\r\n\r\nand so on\r\n")})
		c.quit()
	}
	if path, ok := strings.CutPrefix(r.addrs["local"], "unix:"); ok {
		if err := r.servesLocally(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func (r *upgradeRig) servesLocally(path string) error {
	raw, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(stayLimit))
	if _, err := fmt.Fprint(raw, "PROXY TCP4 192.0.2.7 198.51.100.1 5000 465\r\n"); err != nil {
		return err
	}
	conn := tls.Client(raw, r.tls())
	if err := conn.Handshake(); err != nil {
		return err
	}
	return newStayer(conn).ask("", "220", "EHLO client.example\r\n", "250", "QUIT\r\n", "221")
}

// drained asks the process that serves now to end, and returns when all
// processes have: it is the last.
func (r *upgradeRig) drained(t *testing.T) {
	t.Helper()
	if o := command(t, nil, "drain", "-c", r.file); o.code != 0 || o.stdout != "drained\n" {
		t.Errorf("smtpseal drain: exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	select {
	case <-r.read:
	case <-time.After(60 * time.Second):
		t.Fatalf("a process is left 60 s behind the drain:\n%s", tail(r.log(), 8<<10))
	}
	for _, l := range r.conf["listeners"].(list) {
		addr, _ := l.(tree)["listen"].(string)
		path, unix := strings.CutPrefix(addr, "unix:")
		if _, err := os.Lstat(path); unix && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
		if conn, err := net.Dial("tcp", addr); !unix && !strings.HasPrefix(addr, "systemd:") && err == nil {
			conn.Close()
			t.Errorf("%s still listens", addr)
		}
	}
}
