// Package talk plays SMTP dialogues for tests, as one side of a connection.
package talk

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Stream is what a Talker needs: a net.Conn, or the pipes of a program.
type Stream interface {
	io.Reader
	io.Writer
	SetReadDeadline(time.Time) error
}

// A Talker is one side of a dialogue. It fails its test as soon as the other
// side says what was not expected.
type Talker struct {
	Patience time.Duration // how long to wait for what must come; With sets 10 s

	t      testing.TB
	stream Stream
	in     *bufio.Reader
}

// With returns a Talker on a stream, which stays the caller's to close.
func With(t testing.TB, stream Stream) *Talker {
	return &Talker{10 * time.Second, t, stream, bufio.NewReader(stream)}
}

// Quiet is how long nothing must come for "nothing" to be believed. It is
// waited for in full only where nothing comes.
const Quiet = 30 * time.Millisecond

// Play plays lines, one after the other:
//
//	> text     is sent with CRLF
//	>> text    is sent as it is; \r, \n and \0 are escapes
//	< 250      the rest of a line that begins so
//	<< 250     a whole reply, of whose last line this is the beginning
//	< FIN      the end: EOF, over TLS with close_notify
//	< CUT      the end of a TLS stream without close_notify
//	< RST      the rude end
//	< END      any of the three
//	< nothing  nothing for a while; may follow half a line
func (c *Talker) Play(script string) {
	c.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		switch kind, text, _ := strings.Cut(line, " "); kind {
		case "":
		case ">":
			c.Send(text + "\r\n")
		case ">>":
			c.Send(strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00").Replace(text))
		case "<":
			c.Expect(text)
		case "<<":
			c.ExpectReply(text)
		default:
			c.t.Fatalf("no such line in a dialogue: %q", line)
		}
	}
}

// Send writes text as it stands, in one write.
func (c *Talker) Send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stream, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// Expect reads one line, or one end, as told at Play, and returns the line
// without its CRLF.
func (c *Talker) Expect(want string) string {
	c.t.Helper()
	got, ended := c.line(want)
	if want == "END" && ended {
		return got
	}
	if ended && got != want || !strings.HasPrefix(got, want) {
		c.t.Fatalf("got %q, want %q", got, want)
	}
	return got
}

// ExpectReply reads a reply of any number of lines and returns all of them.
func (c *Talker) ExpectReply(want string) []string {
	c.t.Helper()
	var lines []string
	for {
		line, ended := c.line("")
		lines = append(lines, line)
		if !ended && len(line) > 3 && line[3] == '-' {
			continue
		}
		if ended || !strings.HasPrefix(line, want) {
			c.t.Fatalf("got %q, want %q", lines, want)
		}
		return lines
	}
}

// Maybe reads a line if it begins so, and waits for one to tell.
func (c *Talker) Maybe(want string) {
	c.stream.SetReadDeadline(time.Now().Add(c.Patience))
	if next, err := c.in.Peek(len(want)); err == nil && string(next) == want {
		c.in.ReadString('\n')
	}
}

// line reads one line, or tells how the stream ended.
func (c *Talker) line(want string) (line string, ended bool) {
	patience := c.Patience
	if strings.HasSuffix(want, "nothing") {
		patience = Quiet
	}
	c.stream.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	line = strings.TrimSuffix(line, "\r\n")
	switch {
	case err == nil:
		return line, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return line + "nothing", true
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return line + "RST", true
	case errors.Is(err, io.ErrUnexpectedEOF):
		return line + "CUT", true
	case errors.Is(err, io.EOF):
		return line + "FIN", true
	}
	return line + err.Error(), true
}

// Drain reads all that still comes until the other side ends.
func (c *Talker) Drain() string {
	c.stream.SetReadDeadline(time.Now().Add(c.Patience))
	rest, err := io.ReadAll(c.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Helper()
		c.t.Fatalf("not closed; heard %q", rest)
	}
	return string(rest)
}

// StartTLS goes on over TLS. It fails the test if something has come in clear
// that was not read, or if the handshake fails.
func (c *Talker) StartTLS(config *tls.Config) *tls.Conn {
	c.t.Helper()
	if n := c.in.Buffered(); n > 0 {
		waiting, _ := c.in.Peek(n)
		c.t.Fatalf("in clear before the handshake: %q", waiting)
	}
	conn := tls.Client(c.stream.(net.Conn), config)
	conn.SetDeadline(time.Now().Add(c.Patience))
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	conn.SetDeadline(time.Time{})
	c.stream, c.in = conn, bufio.NewReader(conn)
	return conn
}
