package mta

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// errServerEnded is what closeFIN and closeRST end a session with.
var errServerEnded = fmt.Errorf("closed by a fault: %w", net.ErrClosed)

// closeFIN ends the connection as a process does that exits with nothing left
// unread. A plain Close with unread octets would send RST in place of FIN.
func closeFIN(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	conn.Close()
	return errServerEnded
}

// closeRST ends the connection with RST. On a unix socket, which has none, it
// is a plain close.
func closeRST(conn net.Conn) error {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
	return errServerEnded
}

// waitGone reads nothing, and returns how the client went: io.EOF or
// ECONNRESET, or what our own Close causes. The poller wakes it on each event,
// so nothing is asked periodically.
func waitGone(conn net.Conn) error {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var gone error
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if _, err := unix.Poll(poll, 0); err != nil {
			return false // EINTR: the next event asks again
		}
		switch events := poll[0].Revents; {
		case events&unix.POLLERR != 0:
			gone = syscall.ECONNRESET
		case events&(unix.POLLRDHUP|unix.POLLHUP) != 0:
			gone = io.EOF
		}
		return gone != nil
	})
	if err != nil {
		return err
	}
	return gone
}

// dataSegments is how many segments with data have come on a TCP connection:
// what two writes of the client became, even if one read returned both.
func dataSegments(conn net.Conn) int {
	if _, ok := conn.(*net.TCPConn); !ok {
		return 0
	}
	segments := 0
	control(conn, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			segments = int(info.Data_segs_in)
		}
	})
	return segments
}

// waiting is how many octets have come that nobody has read.
func waiting(conn net.Conn) int {
	octets := 0
	control(conn, func(fd int) { octets, _ = unix.IoctlGetInt(fd, unix.SIOCINQ) })
	return octets
}

func control(conn net.Conn, do func(fd int)) {
	if raw, err := conn.(syscall.Conn).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// Refusing returns an address of 127.0.0.1 that refuses every connection until
// the test ends: a socket is bound to it, so nobody else gets the port, but
// does not listen.
func Refusing(t testing.TB) string {
	t.Helper()
	_, addr := bind(t)
	return addr
}

// Deaf returns an address of 127.0.0.1 where a dial neither succeeds nor fails:
// somebody listens, but the queue is full and never emptied.
func Deaf(t testing.TB) string {
	t.Helper()
	fd, addr := bind(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatalf("mta: listen: %v", err)
	}
	// A backlog of 0 has room for one.
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatalf("mta: fill the queue: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return addr
}

func bind(t testing.TB) (fd int, addr string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("mta: %v", os.NewSyscallError("socket", err))
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatalf("mta: %v", os.NewSyscallError("bind", err))
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatalf("mta: %v", os.NewSyscallError("getsockname", err))
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
}
