//go:build unix

package systemd

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// patience is how long a test waits for a message.
const patience = 30 * time.Second

// A manager listens as systemd does.
type manager struct {
	*testing.T
	*net.UnixConn
}

func newManager(t *testing.T, addr string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return manager{t, conn}
}

func (m manager) expect(want string) {
	m.Helper()
	if got := m.next(); got != want {
		m.Errorf("heard %q, want %q", got, want)
	}
}

func (m manager) next() string {
	m.Helper()
	m.SetReadDeadline(time.Now().Add(patience))
	message := make([]byte, 4096)
	n, err := m.Read(message)
	if err != nil {
		m.Fatal(err)
	}
	return string(message[:n])
}

func environ(t *testing.T, socket, usec, pid string) {
	t.Helper()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", usec)
	t.Setenv("WATCHDOG_PID", pid)
}

func open(t *testing.T, socket string) *Notifier {
	t.Helper()
	environ(t, socket, "", "")
	n, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	n.Report = func(err error) { t.Error(err) }
	return n
}

func TestWhatSystemdHears(t *testing.T) {
	sockets := []string{filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" { // nobody else has abstract ones
		sockets = append(sockets, "@smtpseal-test-"+strconv.Itoa(os.Getpid()))
	}
	for _, socket := range sockets {
		m, n := newManager(t, socket), open(t, socket)
		n.Ready("2 sessions\nMAINPID=1")
		m.expect("READY=1\nSTATUS=2 sessions MAINPID=1")
		n.Status("2 sessions MAINPID=1") // known
		n.Status("3 sessions")
		m.expect("STATUS=3 sessions")
		n.Reloading()
		if got := m.next(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+\n$`).MatchString(got) {
			t.Errorf("heard %q", got)
		}
		n.Ready("3 sessions")
		m.expect("READY=1\nSTATUS=3 sessions")
		n.Stopping()
		m.expect("STOPPING=1")
	}
}

// Two processes must not speak for one service: the old one's STOPPING=1 would
// be taken for the new one's, where NotifyAccess=all.
func TestTheLastWordNamesWhoSpeaksNow(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	n := open(t, m.LocalAddr().String())
	n.MainPID(42)
	m.expect("MAINPID=42")
	n.Stopping()
	n.Ready("x")
	n.Status("y")
	n.ping(func() bool { return true })
	successor := open(t, m.LocalAddr().String())
	successor.Ready("z")
	m.expect("READY=1\nSTATUS=z")
}

func TestOpenTakesTheVariablesAwayAndEnvironHandsThemOn(t *testing.T) {
	us := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		socket, usec, pid string
		watchdog          time.Duration
		environ           []string
		err               string
	}{
		{"", "", "", 0, nil, ""},
		{"", "30000000", "", 0, nil, ""}, // nobody to tell
		{"/n", "", "", 0, []string{"NOTIFY_SOCKET=/n"}, ""},
		{"/n", "30000001", us, 15000000500, []string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=30000001"}, ""},
		{"@n", "30000000", "", 15 * time.Second, []string{"NOTIFY_SOCKET=@n", "WATCHDOG_USEC=30000000"}, ""},
		{"/n", "30000000", "1", 0, []string{"NOTIFY_SOCKET=/n"}, ""}, // meant for another
		{"/n", "soon", "", 0, []string{"NOTIFY_SOCKET=/n"}, "WATCHDOG_USEC"},
		{"vsock:2:1", "30000000", "", 0, nil, `NOTIFY_SOCKET="vsock:2:1": neither a path nor an abstract socket`},
		{"n", "", "", 0, nil, `NOTIFY_SOCKET="n": neither`},
	} {
		environ(t, c.socket, c.usec, c.pid)
		n, err := Open()
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v", c, err)
		}
		if n.Watchdog() != c.watchdog || !slices.Equal(n.Environ(), c.environ) {
			t.Errorf("%+v: watchdog %v, environ %q", c, n.Watchdog(), n.Environ())
		}
		for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if value, ok := os.LookupEnv(name); ok {
				t.Errorf("%+v: %s=%q is left for every program that we start", c, name, value)
			}
		}
	}
}

func TestWithoutSystemdNothingHappens(t *testing.T) {
	n := open(t, "")
	n.write = func(string, string) error { t.Error("sends"); return nil }
	n.Ready("x")
	n.Status("y")
	n.Reloading()
	n.Stopping()
	n.MainPID(1)
	n.Run(t.Context(), nil, nil) // returns at once
}

func TestAFailureIsToldOnceUntilItIsOver(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	n := open(t, socket)
	var told []error
	n.Report = func(err error) { told = append(told, err) }
	n.Ready("a")
	n.Status("b")
	n.Stopping()
	if len(told) != 1 || !errors.Is(told[0], fs.ErrNotExist) || !strings.HasPrefix(told[0].Error(), "notify systemd: ") {
		t.Errorf("told %v", told)
	}
	m := newManager(t, socket)
	n.Status("c")
	m.expect("STATUS=c")
	m.Close()
	n.Status("d")
	n.Status("e")
	if len(told) != 2 {
		t.Errorf("told %v", told)
	}
	n.Report = nil
	n.failed = false
	n.Stopping()
}

// A manager that hangs costs a second a message, and not the service.
func TestAManagerThatDoesNotReadIsNotWaitedFor(t *testing.T) {
	socket := newManager(t, filepath.Join(t.TempDir(), "notify")).LocalAddr().String()
	began := time.Now()
	for range 1 << 20 { // more than any queue holds
		if err := write(socket, "WATCHDOG=1"); err != nil {
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) && runtime.GOOS == "linux" || took > patience {
				t.Errorf("%v after %v", err, took)
			}
			return
		}
	}
	t.Error("a queue without end")
}

func TestStatusIsOneShortLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "",
		"12 sessions, 87 days":   "12 sessions, 87 days",
		"a\nREADY=1\r\x00\x7fb":  "a READY=1   b",
		"caf\xe9 \xff":           "caf? ?",
		"Grüße":                  "Grüße",
		strings.Repeat("x", 300): strings.Repeat("x", 256),
		strings.Repeat("€", 100): strings.Repeat("€", 85), // and not a third of one
	} {
		got := oneLine(text)
		if got != want || !utf8.ValidString(got) || len(got) > maxStatus {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
