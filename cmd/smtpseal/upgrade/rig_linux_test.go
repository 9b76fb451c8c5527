package upgrade

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// A rig is a server and those that replace it.
type rig struct {
	*testing.T
	file, binary string // its configuration, its program
	log          *tape
	cmd          *exec.Cmd
	stdin        *os.File   // they end when it is closed
	given        []*os.File // the first one's sockets
}

// newRig makes a rig whose server is not started yet, with a program of its
// own if a test is going to replace it.
func newRig(t *testing.T, lines ...string) *rig {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, file: filepath.Join(t.TempDir(), "addresses"), binary: binary, log: newTape()}
	r.configure(lines...)
	return r
}

func (r *rig) configure(lines ...string) {
	r.Helper()
	if err := os.WriteFile(r.file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		r.Fatal(err)
	}
}

// ownProgram gives the rig a copy of the program.
func (r *rig) ownProgram() {
	r.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		r.Fatal(err)
	}
	r.binary = filepath.Join(r.TempDir(), "server")
	if err := os.WriteFile(r.binary, text, 0o700); err != nil {
		r.Fatal(err)
	}
}

// start runs the server, by means of another program if there is one, and
// returns its process id.
func (r *rig) start(by ...string) int {
	r.Helper()
	stdin, hold, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	defer stdin.Close()
	args := append(by, r.binary, r.file)
	r.cmd = exec.Command(args[0], args[1:]...)
	r.cmd.Stdin, r.cmd.Stderr, r.stdin = stdin, r.log.in, hold
	r.cmd.ExtraFiles = r.given
	r.cmd.Env = append(os.Environ(), asServer+"=1", "GORACE=atexit_sleep_ms=0") // a second each, else
	if err := r.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		hold.Close()
		r.cmd.Wait()
		r.log.in.Close() // the end of the log comes with the last process
		<-r.log.ended
	})
	return r.cmd.Process.Pid
}

// begin starts the server and returns where its first listener is.
func (r *rig) begin() (pid int, addr string) {
	r.Helper()
	pid = r.start()
	r.log.await(r.T, fmt.Sprintf("ready %d", pid))
	return pid, r.log.after("opened ")
}

// order tells the server at an address what to do, and returns the answer.
func (r *rig) order(addr, order string) string {
	r.Helper()
	conn := r.dial(addr)
	defer conn.Close()
	return conn.order(r.T, order)
}

func (r *rig) upgrade(addr, how string) (pid int) {
	r.Helper()
	answer := r.order(addr, "upgrade "+how)
	pid, err := strconv.Atoi(strings.TrimPrefix(answer, "upgraded "))
	if err != nil {
		r.Fatalf("not upgraded: %s\n%s", answer, r.log)
	}
	r.log.await(r.T, fmt.Sprintf("ready %d", pid)) // it has heard, too
	return pid
}

func (r *rig) expectPid(addr string, want int) {
	r.Helper()
	if got := r.order(addr, "pid"); got != strconv.Itoa(want) {
		r.Fatalf("process %s serves, not %d\n%s", got, want, r.log)
	}
}

// stop ends the server at an address, which has replaced the first one by way
// of all others, and looks at how each of them ended.
func (r *rig) stop(addr string, all ...int) {
	r.Helper()
	conn := r.dial(addr)
	fmt.Fprintln(conn, "stop")
	conn.Close()
	if err := r.cmd.Wait(); err != nil {
		r.Errorf("the first process: %v", err)
	}
	for _, pid := range all {
		r.expectExit(pid, 0)
	}
}

// expectExit reaps a process whose parent has ended.
func (r *rig) expectExit(pid, code int) {
	r.Helper()
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != code {
		r.Errorf("process %d: %v, exit status %d", pid, err, status.ExitStatus())
	}
}

type client struct {
	net.Conn
	in *bufio.Reader
}

func (r *rig) dial(addr string) client {
	r.Helper()
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		r.Fatalf("%v\n%s", err, r.log)
	}
	conn.SetDeadline(time.Now().Add(patience))
	return client{conn, bufio.NewReader(conn)}
}

func (c client) order(t *testing.T, order string) string {
	t.Helper()
	fmt.Fprintln(c, order)
	answer, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %q, %v", order, answer, err)
	}
	return strings.TrimSpace(answer)
}

// A tape keeps what the processes say.
type tape struct {
	in    *os.File
	ended chan struct{}
	mu    sync.Mutex
	grown *sync.Cond
	lines []string
}

func newTape() *tape {
	out, in, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	t := &tape{in: in, ended: make(chan struct{})}
	t.grown = sync.NewCond(&t.mu)
	go t.record(out)
	return t
}

func (t *tape) record(from *os.File) {
	defer close(t.ended)
	defer from.Close()
	for lines := bufio.NewScanner(from); lines.Scan(); {
		t.mu.Lock()
		t.lines = append(t.lines, lines.Text())
		t.mu.Unlock()
		t.grown.Broadcast()
	}
}

// await waits for a line, or the beginning of one.
func (t *tape) await(test *testing.T, line string) {
	test.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		t.mu.Lock()
		late = true
		t.mu.Unlock()
		t.grown.Broadcast()
	})
	defer timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for !late {
		for _, have := range t.lines {
			if strings.HasPrefix(have, line) {
				return
			}
		}
		t.grown.Wait()
	}
	test.Fatalf("no %q in\n%s", line, strings.Join(t.lines, "\n"))
}

// after returns what stands behind the beginning of the first such line.
func (t *tape) after(beginning string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range t.lines {
		if rest, ok := strings.CutPrefix(line, beginning); ok {
			return rest
		}
	}
	return ""
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
