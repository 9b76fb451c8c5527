package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// endings are what some servers take for the end of a message, though only
// CRLF . CRLF is one (RFC 5321 section 4.1.1.4, CVE-2023-51764 and its kin).
var endings = []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\n.\r\r\n", "\r\n\x00.\r\n"}

// smuggling begins a message and never ends it: a server that answers has taken
// one of the endings for the end, and delivers what came before. A right one
// delivers nothing. So it is tried only on a recipient who agrees.
func (e *endpoint) smuggling(ctx context.Context) finding {
	if e.SmuggleTo == "" {
		return note("--to ADDRESS, of somebody at this server who agrees to get a test message if it is broken", "not checked: no recipient given")
	}
	left := endings
	for len(left) > 0 {
		n, taken, err := e.smuggle(ctx, left)
		if taken != "" {
			return fail("update the server and forbid bare line ends (Postfix: smtpd_forbid_bare_newline = normalize), or put smtpseal in front of it",
				"%q was taken for the end of a message: senders can be forged behind it; a test message was delivered to %s", taken, e.SmuggleTo)
		}
		if err != nil {
			return note("give a recipient that this server takes without a login", "not checked: %s", err)
		}
		left = left[n:]
	}
	return good("none of %d others does", len(endings))
}

// smuggle tries endings until the server ends the session, and returns how many
// it has tried, and which one was taken.
func (e *endpoint) smuggle(ctx context.Context, these []string) (tried int, taken string, err error) {
	c, err := e.arrive(ctx, e.config())
	if err != nil {
		return 0, "", err
	}
	defer c.reset()
	for _, step := range []struct {
		line string
		want int
	}{{"MAIL FROM:<>", 250}, {"RCPT TO:<" + bare(e.SmuggleTo) + ">", 250}, {"DATA", 354}} {
		r, err := c.ask(step.line)
		if err != nil {
			return 0, "", err
		}
		if r.code != step.want {
			return 0, "", fmt.Errorf("%.4s was answered %s", step.line, r)
		}
	}
	text := "Subject: smtpseal probe\r\n\r\nThis server takes wrong line ends for the end of a message.\r\n"
	for i, ending := range these {
		if err := c.say(text + "x" + ending); err != nil {
			return i + 1, "", nil
		}
		r, err := c.hearWithin(e.Silence)
		switch {
		case err == errSilent:
		case err == nil && r.good():
			return i + 1, ending, nil
		default: // refused, and no more is to be had here
			return i + 1, "", nil
		}
		text = "y\r\n" // so that two endings do not make a third
	}
	return len(these), "", nil
}

// reset ends a connection in mid-message such that no server can take it for
// the end of the message.
func (c *conversation) reset() {
	c.cancel()
	conn := c.conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
