package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
)

// An endpoint is one port of one host while it is looked at. Its later fields
// are what checks have found out for those that follow.
type endpoint struct {
	*prober
	host, port string
	name       string // as it should be on the certificate
	mode       Mode
	mail       domain
	optional   bool // nobody has named this port
	tell       func(Event)

	visit  *conversation // before and, where it has got so far, inside TLS
	clear  extensions    // of the EHLO reply before TLS
	inside extensions    // and of the one after
	state  tls.ConnectionState
	chain  []*x509.Certificate // verified, leaf first; nil if it is not
	named  bool                // the certificate is valid for the name now
}

func (e *endpoint) address() string { return net.JoinHostPort(e.host, e.port) }

// A check is a row of the table: what is looked at, in which modes.
type check struct {
	id, title string
	modes     []Mode // empty: all
	look      func(*endpoint, context.Context) finding
}

// checks are all there are, in order. The first ones share a connection; those
// that a server may answer by hanging up have connections of their own.
var checks = []check{
	{"reachable", "the port is reachable", nil, (*endpoint).reachable},
	{"handshake", "TLS begins", []Mode{Implicit}, (*endpoint).handshake},
	{"greeting", "the server greets with 220", nil, (*endpoint).greeting},
	{"starttls", "STARTTLS is offered", []Mode{StartTLS, Opportunistic}, (*endpoint).startTLSOffered},
	{"auth-before-tls", "AUTH is hidden and refused before TLS", []Mode{StartTLS, Opportunistic}, (*endpoint).authBefore},
	{"mail-before-tls", "MAIL is refused before TLS", []Mode{StartTLS}, (*endpoint).mailBefore},
	{"handshake", "TLS begins", []Mode{StartTLS, Opportunistic}, (*endpoint).handshake},
	{"ehlo-inside-tls", "EHLO is answered inside TLS", nil, (*endpoint).ehloInside},
	{"auth-inside-tls", "AUTH is offered inside TLS", []Mode{Implicit, StartTLS}, (*endpoint).authInside},
	{"starttls-inside-tls", "STARTTLS is neither offered nor taken inside TLS", nil, (*endpoint).startTLSInside},
	{"leaks", "no command for trusted hosts is announced", nil, (*endpoint).leaks},
	{"xclient", "no client can claim another's address", nil, (*endpoint).claims},
	{"end-to-end", "nothing is announced that a proxy breaks", nil, (*endpoint).endToEnd},
	{"chain", "the certificate's chain is complete and trusted", nil, (*endpoint).chainTrusted},
	{"names", "the certificate has the host's name", nil, (*endpoint).names},
	{"expiry", "the certificate is valid for some time", nil, (*endpoint).expiry},
	{"ocsp", "the certificate is not revoked", nil, (*endpoint).ocsp},
	{"tls-1.3", "TLS 1.3 is accepted", nil, accepts(tls.VersionTLS13)},
	{"tls-1.2", "TLS 1.2 is accepted", nil, accepts(tls.VersionTLS12)},
	{"tls-1.1", "TLS 1.1 is refused", nil, refuses(tls.VersionTLS11)},
	{"tls-1.0", "TLS 1.0 is refused", nil, refuses(tls.VersionTLS10)},
	{"key-exchange", "keys are exchanged by modern curves", nil, (*endpoint).keyExchange},
	{"forward-secrecy", "no key exchange without forward secrecy", nil, (*endpoint).forwardSecrecy},
	{"weak-ciphers", "no broken cipher is accepted", nil, (*endpoint).weakCiphers},
	{"alpn", "TLS meant for a web server is refused", nil, (*endpoint).alpn},
	{"http", "an HTTP request ends the connection", nil, (*endpoint).http},
	{"injection", "nothing said in clear behind STARTTLS counts inside TLS", []Mode{StartTLS, Opportunistic}, (*endpoint).injection},
	{"tlsa", "TLSA records agree with the certificate", nil, (*endpoint).tlsa},
	{"mx", "the domain's MX records name this host", []Mode{Opportunistic}, (*endpoint).mx},
	{"mta-sts", "the MTA-STS policy agrees with host and certificate", []Mode{Opportunistic}, (*endpoint).mtaSTS},
	{"relay", "mail from strangers to strangers is refused", nil, (*endpoint).openRelay},
	{"smuggling", "only CRLF . CRLF ends a message", nil, (*endpoint).smuggling},
}

// look makes all checks that can be made.
func (e *endpoint) look(ctx context.Context) Endpoint {
	ctx, cancel := context.WithTimeout(ctx, endpointTime)
	defer cancel()
	defer func() { e.visit.close() }()
	made := []Check{}
	for _, c := range checks {
		if len(c.modes) > 0 && !slices.Contains(c.modes, e.mode) {
			continue
		}
		e.tell(Event{Doing: c.title})
		f := c.look(e, ctx)
		if f.status == "" {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			break // given up: what was found now is found too early
		}
		if ctx.Err() != nil {
			f = warn("a server that takes so long is of little use: see why it does", "not finished: the time for this port was over").ends()
		}
		one := Check{c.id, f.status, c.title, f.detail, f.remedy}
		made = append(made, one)
		e.tell(Event{Check: &one})
		if f.last {
			break
		}
	}
	e.tell(Event{Done: true})
	return Endpoint{Address: e.address(), Mode: e.mode, Checks: made}
}
