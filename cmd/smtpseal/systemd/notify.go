// Package systemd tells the service manager how the service is: sd_notify(3),
// with the watchdog and a status line.
//
// Without NOTIFY_SOCKET everything here does nothing. Whether systemd can be
// told or not, the service serves: a failure is reported, once until it is
// over, and never returned.
//
// go-systemd reads the environment for the watchdog, and the clock. It does
// not send: its SdNotify wants NOTIFY_SOCKET in the environment for as long as
// there is something to say, where every program that we start (the hooks for
// certificates) would get it, and it waits without bound for a manager that
// does not read. What is left is the few lines of send.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxStatus bounds the status line: systemctl shows one line, and systemd
// drops a message over 4 KiB whole.
const maxStatus = 256

// sendTimeout bounds the wait for a manager that does not read: its queue
// holds some messages, and nothing in them is worth more of our time.
const sendTimeout = time.Second

// A Notifier speaks to the service manager. Open makes one; its methods may be
// called by several goroutines.
type Notifier struct {
	// Report is told of the first failure to send in a row; nil means nobody.
	Report func(error)

	addr     string
	watchdog time.Duration // 0: nobody watches
	write    func(addr, message string) error

	mu     sync.Mutex
	failed bool   // the last message did not arrive
	gone   bool   // another process is the main one
	status string // as it was told last
}

// Open takes NOTIFY_SOCKET and the watchdog's variables out of the environment.
// The Notifier is good for use, as one that does nothing, after an error, too.
func Open() (*Notifier, error) {
	n := &Notifier{addr: os.Getenv("NOTIFY_SOCKET"), write: write}
	os.Unsetenv("NOTIFY_SOCKET")
	watchdog, err := daemon.SdWatchdogEnabled(true)
	if n.addr == "" {
		return n, nil
	}
	if n.addr[0] != '/' && n.addr[0] != '@' {
		err = fmt.Errorf("NOTIFY_SOCKET=%q: neither a path nor an abstract socket", n.addr)
		n.addr = ""
		return n, err
	}
	n.watchdog = watchdog
	return n, err
}

// Environ is what a process that replaces this one needs, to be the next one
// that speaks: see MainPID. It has no WATCHDOG_PID, which would be ours.
func (n *Notifier) Environ() []string {
	if n.addr == "" {
		return nil
	}
	env := []string{"NOTIFY_SOCKET=" + n.addr}
	if n.watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(n.watchdog.Microseconds(), 10))
	}
	return env
}

// Ready says that the service serves, after its start or after a reload.
func (n *Notifier) Ready(status string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status = oneLine(status)
	n.send("READY=1\nSTATUS=" + n.status)
}

// Reloading says that the configuration is being read again; Ready must follow,
// whatever becomes of that. The time tells a systemd of Type=notify-reload
// (253) whether we answer its own signal; an older one passes it over.
func (n *Notifier) Reloading() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the service drains, and will end.
func (n *Notifier) Stopping() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("STOPPING=1")
}

// Status sets the line that systemctl status shows, if it is another one now.
// It becomes one line of at most 256 octets.
func (n *Notifier) Status(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if text = oneLine(text); text == n.status {
		return
	}
	n.status = text
	n.send("STATUS=" + text)
}

// MainPID says that the service is another process now, which has our Environ.
// It is the last word: from then on that one speaks, and we are silent.
// systemd (NotifyAccess=main) hears it from that moment on and not before.
func (n *Notifier) MainPID(pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("MAINPID=" + strconv.Itoa(pid))
	n.gone = true
}

// send tells the manager something, if there is one.
func (n *Notifier) send(message string) {
	if n.addr == "" || n.gone {
		return
	}
	err := n.write(n.addr, message)
	if err != nil && !n.failed && n.Report != nil {
		n.Report(fmt.Errorf("notify systemd: %w", err))
	}
	n.failed = err != nil
}

// write opens the socket anew each time, as sd_notify(3) does: a manager that
// was replaced listens on another socket at the same path.
func write(addr, message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err = conn.Write([]byte(message))
	return err
}

// oneLine makes a status of a text: a line break would begin another variable,
// and systemd drops what is not UTF-8.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "")
	}
	return text
}
