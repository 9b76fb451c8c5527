package proxy

import (
	"io"
	"net"
	"syscall"

	"smtpseal/proxy/smtp"
)

// A wire is a connection that is read without holding storage while nothing is
// there: it waits for the socket to be readable, and only then borrows.
//
// A connection that is no socket (a pipe in a test, anything on a system
// without non-blocking reads) is read as it is.
type wire struct {
	net.Conn
	raw   syscall.RawConn
	try   func(fd uintptr) bool // (*wire).tryRead, bound once: a closure a read would be garbage
	once  func(fd uintptr) bool // (*wire).readOnce
	pose  func(fd uintptr) bool // (*wire).askAndRead
	from  *buffer               // what ask has to say, until it is said
	count int                   // how much of it
	into  *buffer
	n     int
	err   error
}

func (w *wire) init(conn net.Conn) {
	w.Conn = conn
	if c, ok := conn.(syscall.Conn); ok && canTryRead {
		if raw, err := c.SyscallConn(); err == nil {
			w.raw, w.try, w.once, w.pose = raw, w.tryRead, w.readOnce, w.askAndRead
		}
	}
}

// fill waits until octets come and adds them to b. At the end of the stream it
// returns io.EOF.
func (w *wire) fill(b *buffer) error {
	if w.raw == nil {
		n, err := w.Conn.Read(b.room())
		b.added(n)
		b.giveBack()
		if n > 0 {
			return nil
		}
		return err
	}
	return w.read(b, w.try)
}

// poll adds to b what is there already, without waiting: all of it, in however
// many segments it came, but not more than a reply's line may have.
func (w *wire) poll(b *buffer) error {
	if w.raw == nil {
		return nil
	}
	for {
		err := w.read(b, w.once)
		if w.n == 0 && !b.empty() {
			return nil // an end behind it is said when it is looked for
		}
		if w.n == 0 || len(b.bytes()) >= smtp.MaxReplyLine {
			return err
		}
	}
}

// ask writes the first n octets of from and adds at least one octet of the
// answer to b. If the other side has spoken before that, or has left, nothing
// is written and early is true.
//
// The look whether it has spoken is also the first try to read the answer, so
// a turn costs one system call less than with a poll.
func (w *wire) ask(from *buffer, n int, b *buffer) (early bool, err error) {
	if w.raw == nil {
		_, err := w.Conn.Write(from.bytes()[:n])
		from.took(n)
		return false, err
	}
	w.from, w.count = from, n
	err = w.read(b, w.pose)
	early = w.from != nil
	w.from = nil
	return early, err
}

// askAndRead is called when a read begins and whenever octets have come since.
func (w *wire) askAndRead(fd uintptr) bool {
	if w.tryRead(fd) {
		return true
	}
	if w.from == nil {
		return false
	}
	_, w.err = w.Conn.Write(w.from.bytes()[:w.count])
	w.from.took(w.count) // while it waits a session holds no storage
	w.from = nil
	return w.err != nil
}

func (w *wire) read(b *buffer, f func(fd uintptr) bool) error {
	w.into, w.n, w.err = b, 0, nil
	err := w.raw.Read(f)
	w.into = nil
	b.added(w.n)
	b.giveBack()
	if err == nil {
		err = w.err
	}
	return err
}

// tryRead reads if there is something; the answer false waits for it.
func (w *wire) tryRead(fd uintptr) bool {
	n, err := tryRead(fd, w.into.room())
	if err == syscall.EAGAIN {
		w.into.giveBack()
		return false
	}
	w.n, w.err = max(n, 0), err
	if n == 0 && err == nil {
		w.err = io.EOF
	}
	return true
}

// writeLast writes what will be followed by a close, which may then share its
// packet.
func (w *wire) writeLast(p []byte) error {
	if w.raw == nil {
		_, err := w.Write(p)
		return err
	}
	var failed error
	err := w.raw.Write(func(fd uintptr) bool {
		n, err := sendMore(fd, p)
		p = p[max(n, 0):]
		failed = err
		return err != syscall.EAGAIN && (err != nil || len(p) == 0)
	})
	if err == nil {
		err = failed
	}
	return err
}

func (w *wire) readOnce(fd uintptr) bool {
	w.tryRead(fd)
	return true
}
