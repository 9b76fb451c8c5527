package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
)

// Bounds on what a server can make us keep of one reply.
const (
	maxLine  = 4 << 10 // a line without end
	maxLines = 128     // a reply without end
)

// A conversation is a connection on which SMTP is spoken. Each wait has an end
// of its own, which a server that sends an octet now and then cannot move.
type conversation struct {
	conn   net.Conn
	in     *bufio.Reader
	wait   time.Duration
	end    time.Time // no wait goes beyond it; zero: none
	cancel func() bool
}

func converse(ctx context.Context, conn net.Conn, wait time.Duration) *conversation {
	c := &conversation{conn: conn, in: bufio.NewReaderSize(conn, maxLine), wait: wait}
	c.end, _ = ctx.Deadline()
	c.cancel = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return c
}

// hurry gives the next step its time.
func (c *conversation) hurry() {
	deadline := time.Now().Add(c.wait)
	if !c.end.IsZero() && c.end.Before(deadline) {
		deadline = c.end
	}
	c.conn.SetDeadline(deadline)
}

// close is for a connection that was ours to open. A server that waits for QUIT
// has to do without: it may have been told anything.
func (c *conversation) close() {
	if c != nil {
		c.cancel()
		c.conn.Close()
	}
}

// quit leaves as one does.
func (c *conversation) quit() {
	if c != nil {
		c.say("QUIT\r\n")
		c.close()
	}
}

func (c *conversation) say(text string) error {
	c.hurry()
	_, err := io.WriteString(c.conn, text)
	return err
}

// ask says a line and hears the reply.
func (c *conversation) ask(line string) (reply, error) {
	if err := c.say(line + "\r\n"); err != nil {
		return reply{}, err
	}
	return c.hear()
}

// A reply is one of RFC 5321 section 4.2, its lines without code and CRLF.
type reply struct {
	code  int
	lines []string
}

func (r reply) good() bool { return r.code/100 == 2 }
func (r reply) String() string {
	return fmt.Sprintf("%q", printable(fmt.Sprintf("%03d %s", r.code, strings.Join(r.lines, " / "))))
}

func (c *conversation) hear() (r reply, err error) {
	c.hurry()
	for len(r.lines) < maxLines {
		line, err := c.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return r, fmt.Errorf("a line of more than %d octets", maxLine)
		case err != nil:
			return r, plain(err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		code, more, ok := parseReply(text)
		if !ok || r.code != 0 && code != r.code {
			return r, &noReplyError{text}
		}
		r.code = code
		r.lines = append(r.lines, text[min(4, len(text)):])
		if !more {
			return r, nil
		}
	}
	return r, fmt.Errorf("a reply of more than %d lines", maxLines)
}

// hearWithin is for a reply that should not come.
func (c *conversation) hearWithin(wait time.Duration) (reply, error) {
	usual := c.wait
	defer func() { c.wait = usual }()
	c.wait = wait
	return c.hear()
}

// A noReplyError is a line that is not SMTP.
type noReplyError struct{ line string }

func (e *noReplyError) Error() string {
	return fmt.Sprintf("said %q, which is no SMTP", printable(e.line))
}

func parseReply(line string) (code int, more, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	for _, digit := range []byte(line[:3]) {
		if digit < '0' || digit > '9' {
			return 0, false, false
		}
		code = code*10 + int(digit-'0')
	}
	return code, len(line) > 3 && line[3] == '-', code >= 200 && code < 600
}

// maxShown is how much of a server's words a report repeats.
const maxShown = 200

// printable is for text that comes from a server, which may try to write into
// a terminal or a log what it likes.
func printable(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '.'
		}
		return r
	}, text)
}

// plain is the heart of a network error, for people.
func plain(err error) error {
	var op *net.OpError
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case ok && timeout.Timeout():
		return errSilent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClosed
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

var (
	errSilent = errors.New("no answer in time")
	errClosed = errors.New("the server closed the connection")
)
