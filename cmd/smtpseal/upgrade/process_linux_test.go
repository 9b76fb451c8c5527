package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/loopback"
)

// The promise of the package: forty clients come and go, by TCP and by a unix
// socket, while the process is replaced twenty times, and none of them is
// refused, reset, or left without an answer.
func TestTwentyUpgradesUnderFortyClients(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := newRig(t, "tcp 127.0.0.1:0", "unix "+path)
	pid, addr := r.begin()
	var clients sync.WaitGroup
	served := newLedger()
	crowd := make([]customer, 40)
	for i := range crowd {
		c := &crowd[i]
		c.network, c.addr = "tcp", addr
		c.from = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))} // ports of its own
		if i%4 == 0 {
			c.network, c.addr, c.from = "unix", path, nil
		}
		clients.Go(func() { c.visit(served) })
	}
	var all []int
	for range 20 {
		served.await(t, pid, 2*len(crowd))
		pid = r.upgrade(addr, "")
		all = append(all, pid)
		r.expectPid(addr, pid)
		r.expectPid(path, pid)
	}
	served.await(t, pid, 1)
	served.close()
	clients.Wait()
	for i, c := range crowd {
		if c.err != nil {
			t.Errorf("client %d, after %d visits: %v", i, c.visits, c.err)
		}
	}
	r.stop(addr, all...)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the path is left behind: %v", err)
	}
}

// A ledger knows how many answers each process has given.
type ledger struct {
	mu      sync.Mutex
	grown   *sync.Cond
	answers map[int]int
	closed  bool // customers go home
}

func newLedger() *ledger {
	l := &ledger{answers: make(map[int]int)}
	l.grown = sync.NewCond(&l.mu)
	return l
}

// add counts an answer, and reports whether another one is wanted.
func (l *ledger) add(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[pid]++
	l.grown.Broadcast()
	return !l.closed
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.grown.Broadcast()
}

// await waits until a process has given so many answers. A crowd that hears
// none ends the test.
func (l *ledger) await(t *testing.T, pid, count int) {
	t.Helper()
	defer time.AfterFunc(patience, l.close).Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.answers[pid] < count {
		if l.closed {
			t.Fatalf("process %d gave %d answers, not %d", pid, l.answers[pid], count)
		}
		l.grown.Wait()
	}
}

// A customer comes again and again, and asks a few times at each visit.
type customer struct {
	network, addr string
	from          net.Addr
	visits        int
	err           error
}

func (c *customer) visit(served *ledger) {
	for more := true; more && c.err == nil; c.visits++ {
		more, c.err = c.once(served)
	}
}

func (c *customer) once(served *ledger) (more bool, err error) {
	dialer := net.Dialer{LocalAddr: c.from, Timeout: patience}
	conn, err := dialer.Dial(c.network, c.addr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	first := 0
	for range 5 {
		var pid int
		fmt.Fprintln(conn, "pid")
		if _, err := fmt.Fscan(conn, &pid); err != nil {
			return false, err
		}
		if first != 0 && pid != first {
			return false, fmt.Errorf("served by %d, and then by %d", first, pid)
		}
		first, more = pid, served.add(pid)
	}
	return more, nil
}

// A session that is up when the process is replaced stays where it is.
func TestSessionsEndWhereTheyBegan(t *testing.T) {
	r := newRig(t, "tcp 127.0.0.1:0")
	pid, addr := r.begin()
	conn := r.dial(addr)
	conn.order(t, "pid")
	next := r.upgrade(addr, "")
	r.expectPid(addr, next)
	if got := conn.order(t, "pid"); got != strconv.Itoa(pid) {
		t.Errorf("process %s has the session of %d", got, pid)
	}
	conn.Close()
	r.stop(addr, next)
}

func TestAProcessThatFailsLeavesTheOldOneServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for how, want := range map[string]string{
		"exits":         "ended before it was ready: exit status 3",
		"fails late":    "ended before it was ready: exit status 6", // with all sockets in hand
		"hangs briefly": "not ready after 300ms",
	} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, "tcp 127.0.0.1:0", "unix "+path)
			pid, addr := r.begin()
			for range 2 {
				answer := r.order(addr, "upgrade "+how)
				if !strings.HasPrefix(answer, "new process ") || !strings.HasSuffix(answer, want) {
					t.Errorf("said %q, want %q", answer, want)
				}
				var child int
				if fmt.Sscanf(answer, "new process %d:", &child); child == 0 || alive(child) {
					t.Errorf("process %d was not reaped", child)
				}
				r.expectPid(addr, pid)
				r.expectPid(path, pid)
			}
			next := r.upgrade(addr, "")
			r.expectPid(path, next)
			r.stop(addr, next)
		})
	}
}

func TestASecondUpgradeMeanwhileIsRefused(t *testing.T) {
	r := newRig(t, "tcp 127.0.0.1:0")
	pid, addr := r.begin()
	conn := r.dial(addr)
	defer conn.Close()
	fmt.Fprintln(conn, "upgrade hangs")
	r.log.await(t, "hangs ")
	if answer := r.order(addr, "upgrade"); answer != ErrUnderWay.Error() {
		t.Errorf("said %q", answer)
	}
	child, _ := strconv.Atoi(r.log.after("hangs "))
	syscall.Kill(child, syscall.SIGTERM)
	answer, err := conn.in.ReadString('\n')
	if want := fmt.Sprintf("new process %d: ended before it was ready: signal: terminated\n", child); answer != want {
		t.Errorf("said %q, %v, want %q", answer, err, want)
	}
	r.expectPid(addr, pid)
	next := r.upgrade(addr, "")
	conn.Close()
	r.stop(addr, next)
}

// What is on the disk now is what is started, and nothing is lost while
// nothing fit is there.
func TestTheProgramIsLookedUpAgain(t *testing.T) {
	r := newRig(t, "tcp 127.0.0.1:0")
	r.ownProgram()
	pid, addr := r.begin()
	text, err := os.ReadFile(r.binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.binary); err != nil {
		t.Fatal(err)
	}
	for want, put := range map[string]func() error{
		"no such file or directory": func() error { return nil },
		"permission denied":         func() error { return os.WriteFile(r.binary, text, 0o600) },
		"exec format error":         func() error { return os.WriteFile(r.binary, []byte("no program"), 0o700) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if answer := r.order(addr, "upgrade"); !strings.Contains(answer, r.binary) || !strings.HasSuffix(answer, want) {
			t.Errorf("said %q, want %q", answer, want)
		}
		r.expectPid(addr, pid)
		os.Remove(r.binary)
	}
	if err := os.WriteFile(r.binary, text, 0o700); err != nil {
		t.Fatal(err)
	}
	next := r.upgrade(addr, "")
	if file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", next)); file != r.binary {
		t.Errorf("runs %q, %v", file, err)
	}
	r.stop(addr, next)
}

// A version is often chosen by a link, which leads to the next one by now.
func TestALinkIsFollowedAgain(t *testing.T) {
	r := newRig(t, "tcp 127.0.0.1:0")
	r.ownProgram()
	first := r.binary
	r.ownProgram()
	second := r.binary
	r.binary = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(first, r.binary); err != nil {
		t.Fatal(err)
	}
	_, addr := r.begin()
	if err := errors.Join(os.Remove(r.binary), os.Symlink(second, r.binary)); err != nil {
		t.Fatal(err)
	}
	next := r.upgrade(addr, "")
	if file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", next)); file != second {
		t.Errorf("runs %q, %v", file, err)
	}
	r.stop(addr, next)
}

// A new process goes on whatever becomes of the old one.
func TestTheOldProcessIsKilledInTheMiddle(t *testing.T) {
	for _, how := range []string{"orphaned before it inherits", "orphaned before it is ready"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, "tcp 127.0.0.1:0")
			pid, addr := r.begin()
			conn := r.dial(addr)
			defer conn.Close()
			fmt.Fprintln(conn, "upgrade "+how)
			r.log.await(t, "waits ")
			syscall.Kill(pid, syscall.SIGKILL)
			if err := r.cmd.Wait(); err == nil {
				t.Error("the old process ended well")
			}
			child, _ := strconv.Atoi(r.log.after("waits "))
			r.expectPid(addr, child) // waits in the queue until it is ready
			next := r.upgrade(addr, "")
			stop := r.dial(addr)
			fmt.Fprintln(stop, "stop")
			stop.Close()
			r.expectExit(child, 0)
			r.expectExit(next, 0)
		})
	}
}

// The new configuration may have a socket less, or one more.
func TestConfigurationChangesWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, "tcp 127.0.0.1:0", "unix "+dir+"/one")
	_, addr := r.begin()
	r.configure("unix "+dir+"/two", "tcp 127.0.0.1:0")
	next := r.upgrade(addr, "")
	r.expectPid(dir+"/two", next)
	expectFiles(t, dir, "two")
	r.log.await(t, "unused "+Name("unix", dir+"/one")+" (unix "+dir+"/one)")
	r.stop(addr, next)
	expectFiles(t, dir)
}

// systemd's sockets keep their names over upgrades, and their paths after the
// last process. A shell does what systemd does.
func TestSocketActivation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	tcp, other, unix := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener), listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener), listen(t, "unix", path).(*net.UnixListener)
	addr := tcp.Addr().String()
	r := newRig(t, "systemd smtps", "tcp "+other.Addr().String(), "systemd local")
	for _, l := range []interface{ File() (*os.File, error) }{tcp, other, unix} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r.given = append(r.given, f)
	}
	pid := r.start("sh", "-c", `export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=smtps:unknown:local; exec "$@"`, "sh")
	r.expectThrough(pid, addr, other.Addr().String(), path)
	var all []int
	for range 2 {
		all = append(all, r.upgrade(addr, ""))
		r.expectThrough(all[len(all)-1], addr, other.Addr().String(), path)
	}
	r.stop(addr, all...)
	if log := r.log.String(); strings.Contains(log, "opened") || strings.Contains(log, "unused") {
		t.Errorf("not all was inherited:\n%s", log)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("systemd's path: %v", err)
	}
}

func (r *rig) expectThrough(pid int, addrs ...string) {
	r.Helper()
	for _, addr := range addrs {
		r.expectPid(addr, pid)
	}
}

// systemd's own tool waits for a connection, and then becomes the server.
func TestSocketActivationBySystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatalf("%v: run test/install.sh", err)
	}
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, "systemd smtps")
	pid := r.start(tool, "-l", addr, "--fdname=smtps", "-E", asServer+"=1", "-E", "GORACE=atexit_sleep_ms=0")
	r.log.await(t, "Listening on "+addr)
	r.expectPid(addr, pid)
	next := r.upgrade(addr, "")
	r.expectPid(addr, next)
	r.stop(addr, next)
}
