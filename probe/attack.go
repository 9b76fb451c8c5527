package probe

import (
	"bufio"
	"context"
	"errors"
	"strings"
)

// http says what a browser would, and NOOP behind it.
func (e *endpoint) http(ctx context.Context) finding {
	arrive := e.greeted
	if e.mode == Implicit {
		arrive = func(ctx context.Context) (*conversation, error) { return e.arrive(ctx, e.config()) }
	}
	c, err := arrive(ctx)
	if err != nil {
		return unknown(err)
	}
	defer c.close()
	c.say("GET / HTTP/1.1\r\nHost: " + e.name + "\r\nConnection: close\r\n\r\nNOOP\r\n")
	const remedy = "end such connections (Postfix: smtpd_forbidden_commands)"
	for range 6 { // a line each, and one to spare
		r, err := c.hear()
		var strange *noReplyError
		switch {
		case errors.As(err, &strange):
			return fail(remedy, "the server %s: a browser that was steered here would take it", err)
		case err != nil:
			return good("")
		case r.code == 250:
			return note(remedy, "not ended: what a browser sends is taken for commands, if it looks like some")
		}
	}
	return note(remedy, "not ended")
}

// The commands that ride behind STARTTLS. Each is answered by 250 if it counts.
const stowaways = "RSET\r\nNOOP\r\n"

// injection sends them in the same segment, and in the next. Inside TLS comes
// QUIT: if its answer is not the first, there were others before it (RFC 3207
// section 4.2, CVE-2011-0411).
func (e *endpoint) injection(ctx context.Context) finding {
	for _, how := range []struct {
		name     string
		segments []string
	}{
		{"in the same segment", []string{"STARTTLS\r\n" + stowaways}},
		{"in the next segment", []string{"STARTTLS\r\n", stowaways}},
	} {
		answered, err := e.stowAway(ctx, how.segments)
		if err != nil {
			return unknown(err)
		}
		if answered != nil {
			return fail("update the server, or put smtpseal in front of it: it must forget all that came before the handshake",
				"commands sent in clear behind STARTTLS, %s, are answered inside TLS (%s): an attacker's text runs in the victim's session", how.name, answered)
		}
	}
	return good("forgotten, or the session ended")
}

func (e *endpoint) stowAway(ctx context.Context, segments []string) (*reply, error) {
	c, err := e.hello(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	for _, segment := range segments {
		c.say(segment)
	}
	if r, err := c.hear(); err != nil || r.code != 220 {
		return nil, nil
	}
	c.in = bufio.NewReaderSize(c.conn, maxLine) // what was answered in clear is not inside TLS
	if c.encrypt(ctx, e.config()) != nil {
		return nil, nil
	}
	if r, err := c.ask("QUIT"); err == nil && r.good() && r.code != 221 {
		return &r, nil
	}
	return nil, nil
}

// openRelay asks as a stranger whether a stranger would get mail.
func (e *endpoint) openRelay(ctx context.Context) finding {
	if e.Relay == nil {
		return note("--relay FROM TO, with addresses of two other domains", "not checked: no addresses given")
	}
	c, err := e.arrive(ctx, e.config())
	if err != nil {
		return unknown(err)
	}
	defer c.quit()
	accepted, r, err := c.asksRelay(*e.Relay)
	switch {
	case accepted:
		return fail("tell the server who its clients are (PROXY protocol: smtpseal recipe), and take the proxy's address out of its trusted networks (Postfix: mynetworks); until then close the port; "+
			"if you ask from a network that the server trusts this may be right: ask from outside",
			"accepted with %s: an open relay, which spammers find within hours", r)
	case err != nil:
		return good("the server hangs up")
	case r.code/100 == 4:
		return warn("try again later, or from another address", "put off with %s", r)
	}
	return good("%s", r)
}

// asksRelay returns the reply that decided.
func (c *conversation) asksRelay(envelope Envelope) (accepted bool, r reply, err error) {
	if r, err = c.ask("MAIL FROM:<" + bare(envelope.From) + ">"); err != nil || !r.good() {
		return false, r, err
	}
	if r, err = c.ask("RCPT TO:<" + bare(envelope.To) + ">"); err != nil {
		return false, r, err
	}
	accepted = r.good()
	_, err = c.ask("RSET")
	if accepted {
		err = nil // it was, whatever came after
	}
	return accepted, r, err
}

func bare(address string) string { return strings.Trim(address, "<>") }
