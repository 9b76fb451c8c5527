package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpseal/admin"
)

// soon is how long what happens at once may take on a busy machine.
const soon = 2 * time.Second

// A drainer asks for a drain in one of the ways there are. It returns what waits for the end.
type drainer func(t *testing.T, d *dock) (wait func())

var drainers = map[string]drainer{
	"TERM": func(_ *testing.T, d *dock) func() {
		d.terminate()
		return func() {}
	},
	"POST": func(t *testing.T, d *dock) func() {
		code, body := d.request(t, http.MethodPost, "/drain", map[string]string{admin.RequestHeader: "1"})
		if code != http.StatusAccepted || !strings.Contains(body, `"draining"`) {
			t.Errorf("%d %s", code, body)
		}
		return func() {}
	},
	"command": func(t *testing.T, d *dock) func() {
		command := exec.Command(binary, "drain", "-c", d.file)
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := command.Wait(); err != nil || stdout.String() != "drained\n" {
				t.Errorf("%v: %s%s", err, stdout.String(), stderr.String())
			}
			if shown := stderr.String(); !strings.Contains(shown, "draining: 10 sessions left\n") {
				t.Errorf("progress:\n%s", shown)
			}
			select {
			case <-d.read:
			case <-time.After(soon):
				t.Error("it says drained, and the process is there")
			}
		}
	},
}

// Whatever a session is doing when a drain begins, it does to the end, and hears
// 421 where it would have gone on; who is at rest hears it at once.
func TestDrainInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, ask := range drainers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDock(t, "shutdown: 60s, dial: 8s")
			all := d.occupy(t)
			wait := ask(t, d)
			d.closed(t, 10)
			for _, b := range all {
				if b.idle {
					b.Play("<< 421 4.3.2\n< END")
				}
			}
			for _, b := range all {
				if !b.idle {
					b.stays(t)
				}
			}
			for _, b := range all {
				if !b.idle {
					b.goOn()
					b.goesWith421(t)
				}
			}
			<-d.read
			wait()
			d.checkEnds(t, len(all), map[string]string{toDeaf: "backend_unreachable"})
		})
	}
}

// closed checks what the world sees of a drain, at once: no new session, no
// readiness, and a live process with so many sessions.
func (d *dock) closed(t *testing.T, sessions int) {
	t.Helper()
	begin := time.Now()
	until(t, "no readiness", soon, func() bool {
		code, body := d.visit(t, "/readyz")
		return code == http.StatusServiceUnavailable && strings.HasPrefix(body, "draining: smtpseal was told to stop\n")
	})
	for name, addr := range d.addrs {
		until(t, name+" to be closed", soon, func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
	if took := time.Since(begin); took > soon {
		t.Errorf("closed in %v", took)
	}
	if code, body := d.visit(t, "/livez"); code != http.StatusOK {
		t.Errorf("livez: %d %s", code, body)
	}
	until(t, "the idle ones to be gone", soon, func() bool {
		status := d.statusNow(t)
		if status.State != admin.Draining || status.Ready {
			t.Errorf("state %s, ready %v", status.State, status.Ready)
		}
		return status.Headline == fmt.Sprintf("Draining: %d sessions left", sessions)
	})
}

// stays checks that nothing has come, neither octets nor an end.
func (b *berth) stays(t *testing.T) {
	t.Helper()
	raw, err := b.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EAGAIN {
			t.Errorf("%s: has heard something: %d, %v", b.name, n, err)
		}
	})
}

// goesWith421 is the end of a session that had time.
func (b *berth) goesWith421(t *testing.T) {
	t.Helper()
	if heard := b.Drain(); !strings.HasPrefix(heard, "421 4.3.") || strings.Count(heard, "\n") != 1 {
		t.Errorf("%s: hears %q", b.name, heard)
	}
}

// checkEnds looks at how the sessions are logged: as shutdown, unless a listener
// has another outcome.
func (d *dock) checkEnds(t *testing.T, sessions int, others map[string]string) {
	t.Helper()
	ends := d.all("session closed")
	if len(ends) != sessions {
		t.Errorf("%d lines of %d sessions", len(ends), sessions)
	}
	for _, e := range ends {
		want := "shutdown"
		if other, is := others[e.text("listener")]; is {
			want = other
		}
		if e.text("outcome") != want {
			t.Errorf("%v", e)
		}
	}
}

// What does not end in time is cut, not before, and is logged as that.
func TestDrainCutsAtTheDeadline(t *testing.T) {
	t.Parallel()
	const shutdown = 3 * time.Second
	d := newDock(t, "shutdown: 3s, dial: 30s")
	all := d.occupy(t)
	begin := time.Now()
	d.terminate()
	var watched sync.WaitGroup
	for _, b := range all {
		watched.Go(func() {
			for buffer := make([]byte, 4096); ; {
				b.conn.SetReadDeadline(begin.Add(2 * shutdown))
				if _, err := b.conn.Read(buffer); err != nil {
					break
				}
			}
			took := time.Since(begin)
			if b.idle && took > soon || !b.idle && (took < shutdown-100*time.Millisecond || took > shutdown+soon) {
				t.Errorf("%s: ended after %v", b.name, took)
			}
		})
	}
	watched.Wait()
	<-d.read
	if took := time.Since(begin); took > shutdown+3*time.Second {
		t.Errorf("the process ended after %v", took)
	}
	d.checkEnds(t, len(all), nil)
	cut := 0
	for _, e := range d.all("session closed") {
		if strings.HasPrefix(e.text("error"), "cut off: ") {
			cut++
		}
	}
	if cut != len(all)-3 || d.find("sessions were ended before they were done", nil) == nil {
		t.Errorf("%d of %d were logged as cut off:\n%s", cut, len(all)-3, tail(d.log(), 8<<10))
	}
}

// Nobody there is an error that says so, and no success.
func TestDrainOfNobody(t *testing.T) {
	t.Parallel()
	d := newDock(t, "shutdown: 5s")
	d.terminate()
	<-d.read
	o := command(t, nil, "drain", "-c", d.file)
	o.mustFail(t, "nobody answers", d.admin)
	if o.stdout != "" {
		t.Errorf("says %q", o.stdout)
	}
	text, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	without := strings.Replace(string(text), fmt.Sprintf("{listen: %q}", d.admin), "{listen: off}", 1)
	if err := os.WriteFile(d.file, []byte(without), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "drain", "-c", d.file).mustFail(t, "no admin listener", "TERM", "admin.listen")
}
