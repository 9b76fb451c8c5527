//go:build linux

package backend

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// deaf returns an address of this host that completes no more connections: its
// queue is full, as behind a firewall that swallows packets.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "deaf")
	t.Cleanup(func() { f.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for range 8 { // fills the queue; the rest wait as a session's dial would
		go func() {
			if c, err := net.DialTimeout("tcp", addr, 5*time.Second); err == nil {
				time.AfterFunc(5*time.Second, func() { c.Close() })
			}
		}()
	}
	return addr
}

// A real socket must honour the deadline, not only a Dialer of the tests.
func TestDialEndsAtItsDeadline(t *testing.T) {
	addr := deaf(t)
	time.Sleep(100 * time.Millisecond) // until the queue is full
	b := &Backend{Name: "mta", Servers: []Server{{"tcp", addr}, {"tcp", addr}}}
	start := time.Now()
	born, err := b.Dial(start.Add(400*time.Millisecond), Facts{})
	if err == nil {
		born.Conn.Close()
		t.Fatal("somebody answered")
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %s, the deadline was 400 ms: %v", took, err)
	}
}
