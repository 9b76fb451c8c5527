package faulty

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
)

// A session is one client's stay.
type session struct {
	*Server
	conn   net.Conn
	in     *bufio.Reader
	inside bool   // TLS
	queue  string // of commands from before TLS that must be forgotten
	rcpts  int
}

func (s *Server) serve(conn net.Conn) {
	c := &session{Server: s, conn: conn, in: bufio.NewReader(conn)}
	defer func() { c.conn.Close() }()
	if s.Mode == "implicit" && s.Fault != WrongMode && c.encrypt() != nil {
		return
	}
	if !c.greet() {
		return
	}
	for {
		line, err := c.line()
		if err != nil || !c.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

func (c *session) encrypt() error {
	conn := tls.Server(c.conn, c.tls)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.in, c.inside = conn, bufio.NewReader(conn), true
	return nil
}

func (c *session) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(c.conn, format+"\r\n", args...)
	return err == nil
}

// greet reports whether the session goes on.
func (c *session) greet() bool {
	if c.Answer != "" {
		io.WriteString(c.conn, c.Answer)
		io.Copy(io.Discard, c.conn)
		return false
	}
	switch c.Fault {
	case Refusing:
		c.say("554 5.7.1 go away")
		return false
	case Busy:
		c.say("421 4.3.2 %s too busy", Name)
		return false
	case NotSMTP:
		c.say("* OK IMAP4rev1 ready")
		return false
	case Mute:
		io.Copy(io.Discard, c.conn)
		return false
	}
	return c.say("220 %s ESMTP", Name)
}

// line takes what came in clear first, if the fault has kept it.
func (c *session) line() (string, error) {
	if line, rest, ok := strings.Cut(c.queue, "\n"); ok {
		c.queue = rest
		return line, nil
	}
	return c.in.ReadString('\n')
}

// command reports whether the session goes on.
func (c *session) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return c.ehlo()
	case "NOOP", "RSET":
		c.rcpts = 0
		return c.say("250 2.0.0 ok")
	case "QUIT":
		c.say("221 2.0.0 bye")
		return false
	case "STARTTLS":
		return c.startTLS()
	case "AUTH":
		return c.auth()
	case "XCLIENT":
		if c.Fault == XCLIENT && c.inside || c.Fault == XCLIENTTaken {
			return c.say("220 %s ESMTP", Name)
		}
		return c.say("502 5.5.1 no")
	case "GET":
		if c.Fault == HTTP {
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")
		} else {
			c.say("421 4.7.0 this is no web server")
		}
		return false
	case "MAIL", "RCPT", "DATA":
		return c.mail(strings.ToUpper(verb), rest)
	}
	return c.say("500 5.5.2 what?")
}

func (c *session) ehlo() bool {
	if c.inside && c.Fault == NoEHLOInside {
		return c.say("502 5.5.1 no")
	}
	words := []string{Name, "SIZE 1000000", "8BITMIME"}
	offer := func(when bool, word string) {
		if when {
			words = append(words, word)
		}
	}
	optional := c.Mode == "starttls-optional"
	offer(!c.inside && c.Fault != NoStartTLS || c.Fault == StartTLSInside, "STARTTLS")
	mechanisms := "AUTH PLAIN LOGIN"
	if c.Fault == ChannelBinding {
		mechanisms += " SCRAM-SHA-256-PLUS"
	}
	offer(c.inside && !optional && c.Fault != NoAuth || c.Fault == AuthInClear, mechanisms)
	offer(c.inside && c.Fault == ChannelBinding, "REQUIRETLS")
	offer(c.inside && c.Fault == XCLIENT, "XCLIENT NAME ADDR")
	offer(c.inside && c.Fault == XANONYMOUSTLS, "X-ANONYMOUSTLS")
	offer(!c.inside && c.Fault == XEXCH50, "XEXCH50")
	words = append(words, "ENHANCEDSTATUSCODES")
	return c.say("250-%s", strings.Join(words[:len(words)-1], "\r\n250-")) && c.say("250 %s", words[len(words)-1])
}

func (c *session) startTLS() bool {
	if c.inside {
		if c.Fault == StartTLSTaken {
			return c.say("220 2.0.0 once more")
		}
		return c.say("503 5.5.1 TLS is there already")
	}
	if n := c.in.Buffered(); n > 0 && c.Fault == Injection {
		kept, _ := c.in.Peek(n)
		c.queue = string(kept)
	}
	if c.Fault == ClearBehind {
		if _, err := io.WriteString(c.conn, "220 2.0.0 go ahead\r\n250 injected\r\n"); err != nil {
			return false
		}
	} else if !c.say("220 2.0.0 go ahead") {
		return false
	}
	return c.encrypt() == nil
}

func (c *session) auth() bool {
	if c.inside && c.Fault != NoAuth || c.Fault == AuthInClear || c.Fault == AuthTakenUnsaid {
		if !c.say("334 ") {
			return false
		}
		if _, err := c.line(); err != nil {
			return false
		}
		return c.say("501 5.7.0 never mind")
	}
	if !c.inside {
		return c.say("538 5.7.11 encryption required")
	}
	return c.say("502 5.5.1 no")
}
