package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
)

// tried shakes hands in one way and hangs up.
func (e *endpoint) tried(ctx context.Context, change func(*tls.Config)) (tls.ConnectionState, error) {
	config := e.config()
	change(config)
	c, err := e.secure(ctx, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.close()
	return c.conn.(*tls.Conn).ConnectionState(), nil
}

func only(version uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
}

func accepts(version uint16) func(*endpoint, context.Context) finding {
	return func(e *endpoint, ctx context.Context) finding {
		state, err := e.tried(ctx, only(version))
		switch {
		case err == nil:
			return good("%s", tls.CipherSuiteName(state.CipherSuite))
		case !refusal(err):
			return unknown(err)
		case version == tls.VersionTLS12:
			return note("accept it as long as such clients have to be served", "refused: clients from before 2019 or so stay outside")
		}
		return warn("turn it on: it is faster, and hides more", "refused")
	}
}

func refuses(version uint16) func(*endpoint, context.Context) finding {
	return func(e *endpoint, ctx context.Context) finding {
		state, err := e.tried(ctx, only(version))
		switch {
		case err == nil:
			return fail("refuse it (RFC 8996): smtpseal's policies do, all but legacy", "accepted, with %s: it is broken and forbidden", tls.CipherSuiteName(state.CipherSuite))
		case !refusal(err):
			return unknown(err)
		}
		return good("")
	}
}

// keyExchange notes what the first handshake has come to, and that a client
// with classical curves alone is served.
func (e *endpoint) keyExchange(ctx context.Context) finding {
	hybrid := e.state.CurveID == tls.X25519MLKEM768
	state, err := e.tried(ctx, func(c *tls.Config) {
		c.MinVersion = tls.VersionTLS12
		c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		c.CipherSuites = suites(func(s *tls.CipherSuite) bool { return strings.Contains(s.Name, "_ECDHE_") })
	})
	switch {
	case err != nil && !refusal(err):
		return unknown(err)
	case err != nil && hybrid:
		return warn("accept X25519 and P-256, too", "only %s: most clients have nothing but X25519 and P-256", e.state.CurveID)
	case err != nil:
		return warn("accept X25519 and P-256", "neither X25519 nor P-256 is accepted, which all clients have")
	case hybrid:
		return good("X25519MLKEM768, which also keeps out who may one day have a quantum computer, and %s", state.CurveID)
	}
	return good("%s; no post-quantum hybrid (X25519MLKEM768)", state.CurveID)
}

// forwardSecrecy offers RSA key exchange alone: whoever gets the key later reads
// what was recorded.
func (e *endpoint) forwardSecrecy(ctx context.Context) finding {
	return e.offered(ctx, func(s *tls.CipherSuite) bool { return strings.HasPrefix(s.Name, "TLS_RSA_") },
		"RSA key exchange is accepted (%s): whoever gets the key one day reads what was recorded before", "refuse it (Postfix: tls_medium_cipherlist without kRSA)", warn)
}

func (e *endpoint) weakCiphers(ctx context.Context) finding {
	return e.offered(ctx, func(s *tls.CipherSuite) bool {
		return strings.Contains(s.Name, "RC4") || strings.Contains(s.Name, "3DES")
	}, "%s is accepted, which is broken", "refuse RC4 and 3DES", fail)
}

// offered offers TLS 1.2 with nothing but suites that should be refused.
func (e *endpoint) offered(ctx context.Context, these func(*tls.CipherSuite) bool, accepted, remedy string, bad func(string, string, ...any) finding) finding {
	state, err := e.tried(ctx, func(c *tls.Config) {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS12
		c.CipherSuites = suites(these)
	})
	switch {
	case err == nil:
		return bad(remedy, accepted, tls.CipherSuiteName(state.CipherSuite))
	case !refusal(err):
		return unknown(err)
	}
	return good("")
}

// alpn does what a browser does that was steered here (the ALPACA attack): it
// asks for HTTP.
func (e *endpoint) alpn(ctx context.Context) finding {
	state, err := e.tried(ctx, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	var refused tls.AlertError
	const remedy = "refuse clients whose ALPN protocols do not include smtp; smtpseal does"
	switch {
	case errors.As(err, &refused) || refusal(err):
		return good("")
	case err != nil:
		return unknown(err)
	case state.NegotiatedProtocol == "":
		return note(remedy, "not refused: the server does not look at ALPN, so a browser may be steered here")
	}
	return fail(remedy, "the server agrees to speak %s: an attacker can steer browsers here, with the certificate of a name that they trust", printable(state.NegotiatedProtocol))
}
