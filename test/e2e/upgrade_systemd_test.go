package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A told is one message to systemd, and which process sent it.
type told struct {
	pid  int
	text string
}

// A manager hears what a service says of itself, as systemd does.
type manager struct {
	t    *testing.T
	path string

	mu  sync.Mutex
	all []told
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if err := syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1); err != nil {
			t.Error(err)
		}
	})
	var hearing sync.WaitGroup
	hearing.Go(func() { m.hear(conn) })
	t.Cleanup(func() { conn.Close(); hearing.Wait() })
	return m
}

func (m *manager) hear(conn *net.UnixConn) {
	text, extra := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oob, _, _, err := conn.ReadMsgUnix(text, extra)
		if err != nil {
			return
		}
		one := told{text: string(text[:n])}
		if messages, err := syscall.ParseSocketControlMessage(extra[:oob]); err == nil && len(messages) > 0 {
			if sender, err := syscall.ParseUnixCredentials(&messages[0]); err == nil {
				one.pid = int(sender.Pid)
			}
		}
		m.mu.Lock()
		m.all = append(m.all, one)
		m.mu.Unlock()
	}
}

// said are the messages so far that begin with a word, of all processes or one.
func (m *manager) said(word string, pid int) (all []told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.all {
		if strings.HasPrefix(one.text, word) && (pid == 0 || one.pid == pid) {
			all = append(all, one)
		}
	}
	return all
}

// await returns the nth message of a process that begins with a word.
func (m *manager) await(word string, pid, n int) told {
	m.t.Helper()
	until(m.t, fmt.Sprintf("%d times %s of process %d", n, word, pid), 30*time.Second, func() bool { return len(m.said(word, pid)) >= n })
	return m.said(word, pid)[n-1]
}

// words are what was said but for the watchdog and the status line, in order.
func (m *manager) words() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, one := range m.all {
		word, _, _ := strings.Cut(one.text, "=")
		if word != "WATCHDOG" && word != "STATUS" {
			all = append(all, fmt.Sprintf("%d %s", one.pid, word))
		}
	}
	return strings.Join(all, ", ")
}

// What systemd hears of a start, a reload, one that fails, an upgrade and a stop:
// from whom, and in this order.
func TestSystemdHears(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	r := prepareUpgrade(t)
	r.start(t, []string{"NOTIFY_SOCKET=" + m.path, "WATCHDOG_USEC=1000000"})
	first := r.command.Process.Pid
	ready := m.await("READY=1", first, 1)
	status := regexp.MustCompile(`^READY=1\nSTATUS=\d+ sessions; certificate of ` + regexp.QuoteMeta(hostname) + `: 0 days left$`)
	if !status.MatchString(ready.text) {
		t.Errorf("systemd heard %q", ready.text)
	}
	m.await("WATCHDOG=1", first, 2)

	c := r.open(t, submissions, "")
	c.greet()
	syscall.Kill(first, syscall.SIGHUP)
	m.await("RELOADING=1\nMONOTONIC_USEC=", first, 1)
	if again := m.await("READY=1", first, 2); !strings.Contains(again.text, "STATUS=1 sessions; ") {
		t.Errorf("systemd heard %q with one session", again.text)
	}
	replaceFile(t, r.file, []byte("listeners: no\n"), 0o600)
	syscall.Kill(first, syscall.SIGHUP)
	m.await("READY=1", first, 3)

	r.refuseUpgrade(t, "exit status 1", nil)
	if said := m.said("MAINPID=", 0); len(said) > 0 {
		t.Errorf("systemd heard %v of an upgrade that came to nothing", said)
	}
	writeTree(t, r.file, r.conf)
	r.upgrade(t)
	second := r.pid()
	m.await("READY=1", second, 1)
	c.Play("<< 421\n< FIN")
	m.await("WATCHDOG=1", second, 2)
	r.drained(t)
	m.await("STOPPING=1", second, 1)
	want := fmt.Sprintf("%[1]d READY, %[1]d RELOADING, %[1]d READY, %[1]d RELOADING, %[1]d READY, %[1]d MAINPID, %[2]d READY, %[2]d STOPPING", first, second)
	if got := m.words(); got != want || m.said("MAINPID=", first)[0].text != fmt.Sprintf("MAINPID=%d", second) {
		t.Errorf("systemd heard\n%s\nwant\n%s", got, want)
	}
}

// systemd opens the sockets, and smtpseal begins when the first client comes.
// They outlive upgrades, each by its name.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	r := prepareUpgrade(t)
	listeners := r.conf["listeners"].(list)
	implicit, startTLS, unused := listeners[0].(tree)["listen"].(string), listeners[1].(tree)["listen"].(string), freeAddr(t)
	edit(r.conf, "listeners", list{
		tree{"name": submissions, "listen": "systemd:smtps", "tls": "implicit", "backend": "mta"},
		tree{"name": submission, "listen": startTLS, "tls": "starttls", "backend": "mta"}, // found by its address
	})
	r.start(t, nil, "systemd-socket-activate", "-l", implicit, "-l", startTLS, "-l", unused, "--fdname=smtps:other:unused",
		"-E", "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	r.addrs[submissions], r.addrs[submission] = implicit, startTLS
	r.wait("the sockets", func() bool { return strings.Contains(r.log(), unused) })
	r.serves(t) // which begins it
	r.ready(t)
	if r.find("a socket that this process was given is not in the configuration, and was closed", func(e entry) bool { return strings.Contains(e.text("name"), "unused") }) == nil {
		t.Errorf("nothing is said of the socket that nobody uses:\n%s", r.log())
	}
	for range 2 {
		r.upgrade(t)
		r.serves(t)
	}
	// It may become the admin listener's and come back, and goes on by its name.
	doors := r.conf["listeners"]
	edit(r.conf, "admin.listen", list{r.admin, "systemd:smtps"})
	edit(r.conf, "listeners", doors.(list)[1:])
	delete(r.addrs, submissions)
	r.reload(t)
	for range 2 {
		if _, err := clientOf(implicit).Status(t.Context()); err != nil {
			t.Errorf("the admin listener on systemd's socket: %v", err)
		}
		r.serves(t)
		r.upgrade(t)
	}
	edit(r.conf, "admin.listen", r.admin)
	edit(r.conf, "listeners", doors)
	r.addrs[submissions] = implicit
	r.reload(t)
	r.serves(t)
	// A reload drops one, and the next process does without it.
	edit(r.conf, "listeners", r.conf["listeners"].(list)[:1])
	r.reload(t)
	delete(r.addrs, submission)
	r.serves(t)
	r.upgrade(t)
	r.serves(t)
	r.drained(t)
}

// reload has the configuration read that there is now.
func (r *upgradeRig) reload(t *testing.T) {
	t.Helper()
	writeTree(t, r.file, r.conf)
	if o := reloadBy(t, r.file); o.code != 0 || o.stdout != "reloaded\n" {
		t.Errorf("smtpseal reload: exit %d, %q, %q", o.code, o.stdout, o.stderr)
	}
}
