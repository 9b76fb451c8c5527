package backend

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerWait is how long a server waits at least for a PROXY header before it
// gives up: Exim 3 s, Postfix 5 s. It then refuses the client.
const headerWait = 2500 * time.Millisecond

// farewell is the time that is left to a check when Watch ends, to say QUIT:
// connections that just end are warnings in the log of a mail server.
const farewell = 250 * time.Millisecond

// A fault is an error of a check, with what to do about it.
type fault struct {
	step  string
	cause error
	hint  string
}

func (f *fault) Error() string { return f.step + ": " + f.cause.Error() }
func (f *fault) Unwrap() error { return f.cause }

const logHint = "the mail server's log says why"

// check asks a server as mail servers like it: it introduces us as ourselves,
// waits for the greeting, says EHLO and QUIT, and waits for the answers. A
// greeting alone proves nothing: Exim greets also whom it will not serve, since
// the PROXY header was missing.
func (b *Backend) check(ctx context.Context, server Server) error {
	deadline := time.Now().Add(b.Health.withDefaults().Timeout)
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := b.dial(dialing, server)
	if err != nil {
		return err // net says "dial tcp ADDRESS: cause" itself
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	defer hurry(ctx, conn)()
	d := &dialogue{b: b, conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	for _, step := range []func() error{d.introduce, d.greeting, d.ehlo, d.quit} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// hurry lets a check end soon once ctx is done. The caller calls what it
// returns, so that nothing is left of it.
func hurry(ctx context.Context, conn net.Conn) (stop func()) {
	done := make(chan struct{})
	calm := context.AfterFunc(ctx, func() {
		defer close(done)
		conn.SetDeadline(time.Now().Add(farewell))
	})
	return func() {
		if !calm() {
			<-done
		}
	}
}

// A dialogue is one check's.
type dialogue struct {
	b    *Backend
	conn net.Conn
	in   *bufio.Reader
}

// introduce writes a header that speaks of us, in one write: servers look for
// it with one peek. LOCAL is what v2 has for this. v1 has UNKNOWN, which Postfix
// and Haraka refuse, so that it gets our socket's own addresses.
func (d *dialogue) introduce() error {
	header, err := d.header()
	if err == nil && header != nil {
		_, err = d.conn.Write(header)
	}
	if err != nil {
		return &fault{"write PROXY header", d.plain(err), logHint}
	}
	return nil
}

func (d *dialogue) header() ([]byte, error) {
	switch d.b.Proxy {
	case Off:
		return nil, nil
	case V2:
		return (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	}
	header, _, err := d.b.Header(Facts{Client: address(d.conn.LocalAddr()), Local: address(d.conn.RemoteAddr())})
	return header, err
}

// address is a socket's, or for a unix socket the one of this host.
func address(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
}

func (d *dialogue) greeting() error {
	asked := time.Now()
	code, words, err := d.reply()
	switch {
	case err != nil:
		return &fault{"greeting", d.b.greetingError(err), d.b.greetingHint(err)}
	case code != 220:
		d.leave()
		return &fault{"greeting", errors.New(words), d.b.refusalHint(time.Since(asked))}
	case d.in.Buffered() > 0:
		return &fault{"greeting", d.b.greetingError(errSurplus), d.b.Mismatch(Talkative)}
	}
	return nil
}

func (d *dialogue) ehlo() error {
	name := d.b.Helo
	if name == "" {
		name = "localhost"
	}
	code, words, err := d.ask("EHLO " + name)
	switch {
	case err != nil && d.b.Proxy != Off && !errors.Is(err, errSilent):
		return &fault{"EHLO", err, d.b.Mismatch(Closed)}
	case err != nil:
		return &fault{"EHLO", err, logHint}
	case code == 250:
		return nil
	}
	d.leave()
	hint := logHint
	if code == 500 || code == 502 || code == 503 || code == 221 {
		// The refusal of a header, taken for commands, can come as late as this; and
		// Exim answers so when it has missed its header.
		hint = d.b.Mismatch(Confused)
	}
	return &fault{"EHLO", errors.New(words), hint}
}

func (d *dialogue) quit() error {
	code, words, err := d.ask("QUIT")
	if err == nil && code != 221 {
		err = errors.New(words)
	}
	if err != nil {
		return &fault{"QUIT", err, logHint}
	}
	return nil
}

// leave ends a check that has failed, as quietly as the server lets us. More
// than a refused header's replies are not waited for.
func (d *dialogue) leave() {
	code, _, err := d.ask("QUIT")
	for range 3 {
		if err != nil || code == 221 {
			return
		}
		code, _, err = d.reply()
	}
}
