package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
)

// This file is what is said inside TLS.

// handshake goes on inside TLS: where TLS comes first on the connection that is
// there, else on a new one, since the other may have ended for good reasons.
func (e *endpoint) handshake(ctx context.Context) finding {
	var err error
	if e.mode == Implicit {
		err = e.visit.encrypt(ctx, e.config())
	} else {
		e.visit.quit()
		e.visit, err = e.secure(ctx, e.config())
	}
	var clear tls.RecordHeaderError
	switch {
	case errors.As(err, &clear) && strings.HasPrefix(string(clear.RecordHeader[:]), "220"):
		return fail("make it a TLS port (Postfix: smtpd_tls_wrappermode = yes); if it is to have STARTTLS: --mode starttls", "the server speaks SMTP in clear here, where TLS has to come first").ends()
	case err != nil:
		return fail("see the server's log; compare: openssl s_client "+e.sClient(), "no handshake: %s", printable(plain(err).Error())).ends()
	}
	e.state = e.visit.conn.(*tls.Conn).ConnectionState()
	return good("%s, %s", tls.VersionName(e.state.Version), tls.CipherSuiteName(e.state.CipherSuite))
}

func (e *endpoint) sClient() string {
	if e.mode == Implicit {
		return "-connect " + e.address()
	}
	return "-starttls smtp -connect " + e.address()
}

func (e *endpoint) ehloInside(context.Context) (f finding) {
	var err error
	if e.inside, err = e.visit.ehlo(e.Helo); err != nil {
		return fail(ehloRemedy(err, "see the log of the server, and of what stands in front of it"), "no EHLO reply: %s", err).ends()
	}
	return good("%d extensions", len(e.inside))
}

func (e *endpoint) authInside(context.Context) finding {
	mechanisms, offered := e.inside["AUTH"]
	if !offered {
		return fail("turn AUTH on for this port (Postfix: smtpd_sasl_auth_enable = yes); a server that hides it without TLS must be told that there is TLS (PROXY v2 with the ssl TLV)",
			"not offered: nobody can log in to send mail")
	}
	return good("%s", printable(strings.TrimSpace(mechanisms)))
}

// startTLSInside ends the visit: what the server thinks of it now is unclear.
func (e *endpoint) startTLSInside(context.Context) finding {
	defer func() { e.visit.close() }()
	const remedy = "hide STARTTLS behind what ends TLS: a client that follows the offer begins TLS inside TLS, past the proxy"
	_, offered := e.inside["STARTTLS"]
	r, err := e.visit.ask("STARTTLS")
	switch {
	case offered:
		return fail(remedy, "offered again inside TLS")
	case err != nil:
		return good("the server hangs up when asked for it")
	case r.code == 220:
		return fail(remedy, "not offered, but begun when asked for: %s", r)
	}
	e.visit.say("QUIT\r\n")
	return good("%s", r)
}

// trusted are extensions for hosts that the server trusts. A proxy's own
// connection is trusted, so what it lets through works for everybody.
var trusted = []string{"XCLIENT", "XFORWARD", "X-ANONYMOUSTLS", "XEXCH50", "X-EXPS", "XPROXY", "XPROXYFROM", "XPROXYTO",
	"XRDST", "XSHADOW", "XSHADOWREQUEST", "XSESSIONPARAMS", "LHLO", "TURN", "ATRN", "XADR", "XREMOTEQUEUE"}

const trustedRemedy = "hide and refuse it in front of the server (smtpseal does), or take the proxy's address off the server's list of trusted hosts (Postfix: smtpd_authorized_xclient_hosts)"

func (e *endpoint) leaks(context.Context) finding {
	var leaked []string
	for _, keyword := range trusted {
		_, before := e.clear[keyword]
		_, after := e.inside[keyword]
		if before || after {
			leaked = append(leaked, keyword)
		}
	}
	if len(leaked) > 0 {
		return fail(trustedRemedy, "%s announced to the Internet: whoever uses it can pass for a trusted host", strings.Join(leaked, ", "))
	}
	return good("none of %d that are known", len(trusted))
}

// claims tries what a server may take without announcing it, with an address
// for documentation (RFC 5737). The connection ends there.
func (e *endpoint) claims(ctx context.Context) finding {
	c, err := e.arrive(ctx, e.config())
	if err != nil {
		return unknown(err)
	}
	defer c.close()
	r, err := c.ask("XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]")
	switch {
	case err != nil:
		return good("the server hangs up on XCLIENT")
	case r.good():
		return fail(trustedRemedy, "XCLIENT was taken (%s): whoever uses it has any address, a trusted one among them", r)
	}
	return good("XCLIENT: %s", r)
}

// endToEnd looks for what is a promise about TLS itself, which a server behind
// a proxy cannot keep. A server that ends TLS itself can.
func (e *endpoint) endToEnd(context.Context) finding {
	var found []string
	for _, mechanism := range strings.Fields(strings.ToUpper(e.inside["AUTH"])) {
		if strings.HasSuffix(mechanism, "-PLUS") || mechanism == "EXTERNAL" {
			found = append(found, mechanism)
		}
	}
	if _, offered := e.inside["REQUIRETLS"]; offered {
		found = append(found, "REQUIRETLS")
	}
	if len(found) == 0 {
		return good("no *-PLUS, EXTERNAL or REQUIRETLS")
	}
	slices.Sort(found)
	return note("if TLS ends in front of the server: hide them there", "%s announced: right if the server ends TLS itself; behind a proxy they fail, or promise what it does not keep", printable(strings.Join(found, ", ")))
}
