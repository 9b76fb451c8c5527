package probe

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// This file is what can be seen before TLS.

func (e *endpoint) reachable(ctx context.Context) finding {
	c, err := e.open(ctx)
	if err != nil {
		if e.optional {
			return note("open it if other servers are to deliver mail here", "closed: %s; without it this host receives no mail from other servers", err).ends()
		}
		return fail(e.closedRemedy(), "no connection: %s", err).ends()
	}
	e.visit = c
	peer := c.conn.RemoteAddr().String()
	if e.mode == "" {
		e.mode = e.guess()
		return good("%s, which seems to be of mode %s", peer, e.mode)
	}
	return good("%s", peer)
}

func (e *endpoint) closedRemedy() string {
	remedy := "start the server, open the firewall, and look at the address: " + e.host
	if len(e.mail.mx) == 0 && net.ParseIP(e.host) == nil {
		remedy += "; if the mail server has another name, give that one"
	}
	return remedy
}

// guess waits for a greeting: who stays silent waits for TLS.
func (e *endpoint) guess() Mode {
	e.visit.conn.SetReadDeadline(time.Now().Add(min(e.Silence, e.Timeout)))
	first, err := e.visit.in.Peek(1)
	switch {
	case err != nil || first[0] < '0' || first[0] > '9':
		return Implicit
	case strings.HasSuffix(e.port, "25"):
		return Opportunistic
	}
	return StartTLS
}

// greeting is the first thing that a server says, in clear or not.
func (e *endpoint) greeting(context.Context) finding {
	r, err := e.visit.hear()
	var strange *noReplyError
	switch {
	case errors.As(err, &strange):
		return fail("another service has the port, or what stands in front of the mail server has failed", "the server %s", err).ends()
	case err != nil && e.mode != Implicit:
		return fail("see the server's log; if it speaks TLS at once: --mode implicit", "no greeting: %s", err).ends()
	case err != nil:
		return fail("see the log of the server, and of what stands in front of it", "no greeting: %s", err).ends()
	case ofSmtpseal(r):
		return fail(behindRemedy, "the server has no time: %s", r).ends()
	case r.code == 421:
		return fail("see the server's log: it is overloaded, going down, does not reach what is behind it, or has had enough of this client", "the server has no time: %s", r).ends()
	case r.code != 220:
		return fail("the server turns this client away: see its log for the reason", "greeted with %s", r).ends()
	}
	return good("%s", strings.TrimPrefix(printable(r.lines[0]), " "))
}

// ofSmtpseal reports whether a reply has the words that smtpseal itself says
// when it gets nowhere with the mail server behind it, whose own it passes on.
func ofSmtpseal(r reply) bool {
	return r.code == 421 && strings.Contains(r.lines[0], "Service not available, try again later")
}

const behindRemedy = "smtpseal says so: most likely the mail server behind it is down, or expects another PROXY header (proxy_protocol, and what smtpseal recipe prints); smtpseal status and its log say which"

// ehloRemedy is what to do about an EHLO that was not taken.
func ehloRemedy(err error, otherwise string) string {
	var refused *ehloError
	if errors.As(err, &refused) && ofSmtpseal(refused.reply) {
		return behindRemedy
	}
	return otherwise
}

func (e *endpoint) startTLSOffered(context.Context) finding {
	var err error
	if e.clear, err = e.visit.ehlo(e.Helo); err != nil {
		return fail(ehloRemedy(err, "every mail server has to answer EHLO: see its log"), "no EHLO reply: %s", err).ends()
	}
	if _, offered := e.clear["STARTTLS"]; !offered {
		return fail("give the server a certificate and turn TLS on, or let smtpseal do that", "not offered: passwords and mail are read on the way, and nothing behind TLS could be checked").ends()
	}
	return good("")
}

const authRemedy = "let the server ask for TLS first (Postfix: smtpd_tls_auth_only = yes; Dovecot: ssl = required)"

// authBefore asks for a mechanism and tells it nothing.
func (e *endpoint) authBefore(context.Context) finding {
	if mechanisms, offered := e.clear["AUTH"]; offered {
		return fail(authRemedy, "AUTH%s is announced in clear: clients send passwords that can be read on the way", printable(mechanisms))
	}
	r, err := e.visit.ask("AUTH PLAIN")
	if err != nil {
		return good("the server hangs up when asked for it")
	}
	if r.code == 334 || r.good() {
		e.visit.ask("*") // RFC 4954 section 4: never mind
		return fail(authRemedy, "hidden, but a client that asks for it in clear hears %s", r)
	}
	return good("%s", r)
}

// mailBefore uses a connection of its own if the other was closed.
func (e *endpoint) mailBefore(ctx context.Context) finding {
	r, err := e.visit.ask("MAIL FROM:<>")
	if err != nil {
		c, again := e.hello(ctx)
		if again != nil {
			return unknown(again)
		}
		e.visit.close()
		e.visit = c
		r, err = c.ask("MAIL FROM:<>")
	}
	switch {
	case err != nil:
		return good("the server hangs up")
	case r.good():
		return fail("require TLS on this port (Postfix: smtpd_tls_security_level = encrypt); if it is meant for mail from other servers: --mode starttls-optional",
			"accepted in clear with %s: mail can be read on the way", r)
	case r.code/100 == 4:
		return warn("answer 530 5.7.0", "put off with %s, so clients try again in clear and do not learn that they need TLS", r)
	}
	return good("%s", r)
}
