package upgrade

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The mode is shared by all who have a socket. Had an upgrade made it blocking,
// the next Accept would heed no deadline and no Close, and a drain never end.
func TestAnUpgradeLeavesSocketsAsTheyAre(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nonblock := func(fd int) (int, error) {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return flags & unix.O_NONBLOCK, err
	}
	for _, network := range []string{"tcp", "unix"} {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = t.TempDir() + "/s"
		}
		l := listen(t, network, addr)
		u := Upgrader{OS: OS{Program: func() (string, []string, error) { return binary, []string{binary, "-"}, nil }}}
		_, err := u.Upgrade(t.Context(), []Handed{{Name(network, addr), l}}, []string{asServer + "=1", asStart + "=exits"})
		expectError(t, err, "exit status 3")
		expectOption(t, l, nonblock, unix.O_NONBLOCK)
		l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now())
		if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: no deadline: %v", network, err)
		}
		l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Time{})
		ended := make(chan error)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: not closed: %v", network, err)
		}
	}
}

func TestWhatIsNoSocketCannotBeHandedOver(t *testing.T) {
	var u Upgrader
	_, err := u.Upgrade(t.Context(), []Handed{{"odd", &unixListener{}}}, nil)
	expectError(t, err, "hand over odd: no socket of the operating system: *upgrade.unixListener")
	closed := listen(t, "tcp", "127.0.0.1:0")
	closed.Close()
	_, err = u.Upgrade(t.Context(), []Handed{{"gone", closed}}, nil)
	expectError(t, err, "hand over gone: ")
}

func TestACopyIsAListenerOfItsOwn(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	for range 2 { // of a listener, and of a copy
		c, err := Copy(l)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		l.Close()
		client, err := net.Dial("tcp", c.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		expectOption(t, conn, func(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) }, 0)
		client.Close()
		conn.Close()
		l = c
	}
	if _, err := Copy(&unixListener{}); err == nil {
		t.Error("a copy of no socket")
	}
}
