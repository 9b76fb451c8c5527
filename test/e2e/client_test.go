package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"smtpseal/test/postfix"
	"smtpseal/test/talk"
)

// A client is connected to a process, and speaks TLS with it.
type client struct {
	*talk.Talker
	t   *testing.T
	tls *tls.Conn
	tcp *net.TCPConn
}

// dial connects from an address of ours; "" is any.
func (p *process) dial(t *testing.T, listener, from string) *net.TCPConn {
	t.Helper()
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", p.addrs[listener])
	if err != nil {
		t.Fatalf("dial %s: %v", listener, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// seal connects and goes as far as a TLS session in which nothing was said.
func (p *process) seal(t *testing.T, listener, from string) *client {
	t.Helper()
	return p.sealOver(t, listener, p.dial(t, listener, from))
}

func (p *process) sealOver(t *testing.T, listener string, conn *net.TCPConn) *client {
	t.Helper()
	c := &client{Talker: talk.With(t, conn), t: t, tcp: conn}
	if listener != submissions {
		c.Play(`
			<< 220
			> EHLO before.example
			<< 250
			> STARTTLS
			<< 220
		`)
	}
	c.tls = c.StartTLS(p.tls())
	return c
}

// open goes on to the point where the client says EHLO.
func (p *process) open(t *testing.T, listener, from string) *client {
	t.Helper()
	return p.openOver(t, listener, p.dial(t, listener, from))
}

func (p *process) openOver(t *testing.T, listener string, conn *net.TCPConn) *client {
	t.Helper()
	c := p.sealOver(t, listener, conn)
	if listener == submissions {
		c.Play("<< 220")
	}
	return c
}

// greet says EHLO, and returns the keywords that are announced.
func (c *client) greet() []string {
	c.t.Helper()
	c.Play("> EHLO client.example")
	return c.ExpectReply("250")[1:]
}

// envelope opens a transaction.
func (c *client) envelope(to string) {
	c.t.Helper()
	c.Play(`
		> MAIL FROM:<sender@example.org> BODY=8BITMIME
		<< 250
		> RCPT TO:<` + to + `>
		<< 250
	`)
}

// recipients counts the addresses given out.
var recipients atomic.Int64

// recipient is an address that no other mail goes to, not even in a second run
// of the same test.
func recipient(name string) string {
	return strings.ToLower(fmt.Sprintf("%s-%d@%s", name, recipients.Add(1), postfix.Domain))
}

// A mail is what is sent, and how.
type mail struct {
	to        string
	body      []byte
	chunks    []int // BDAT with pieces of these lengths; nil: DATA
	pipelined bool  // all that needs no answer first in one write
}

// deliver sends one mail and expects it to be taken. What is pipelined is all
// written before anything is read: the replies are too short to fill a buffer.
func (c *client) deliver(m mail) {
	c.t.Helper()
	steps := []step{
		{"MAIL FROM:<sender@example.org> BODY=8BITMIME\r\n", "250"},
		{"RCPT TO:<" + m.to + ">\r\n", "250"},
	}
	if m.chunks == nil {
		steps = append(steps, step{"DATA\r\n", "354"}) // the last of a group (RFC 2920 section 3.1)
	} else {
		steps = append(steps, inChunks(m)...)
	}
	if m.pipelined {
		for _, s := range steps {
			c.Send(s.say)
		}
	}
	for _, s := range steps {
		if !m.pipelined {
			c.Send(s.say)
		}
		c.ExpectReply(s.hear)
	}
	if m.chunks == nil {
		c.Send(string(stuffed(m.body)))
		c.ExpectReply("250")
	}
}

// A step is something said and the code of what is heard.
type step struct{ say, hear string }

// inChunks cuts the body into pieces of the given lengths.
func inChunks(m mail) (steps []step) {
	rest := m.body
	for i, n := range m.chunks {
		last := ""
		if i == len(m.chunks)-1 {
			last = " LAST"
		}
		steps = append(steps, step{fmt.Sprintf("BDAT %d%s\r\n%s", n, last, rest[:n]), "250"})
		rest = rest[n:]
	}
	return steps
}

// quit ends the session in the proper way.
func (c *client) quit() {
	c.t.Helper()
	c.Play(`
		> QUIT
		<< 221
		< FIN
	`)
	c.tls.Close()
}

// stuffed is a body as DATA carries it (RFC 5321 section 4.5.2), with its end.
// The body ends with CRLF.
func stuffed(body []byte) []byte {
	out := bytes.ReplaceAll(body, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(out, []byte(".")) {
		out = append([]byte("."), out...)
	}
	return append(out, ".\r\n"...)
}

// stored is a body as Postfix stores it.
func stored(body []byte) []byte { return bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")) }
