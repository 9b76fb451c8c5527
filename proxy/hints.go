package proxy

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/pires/go-proxyproto"
)

// Hint says in a sentence what an operator can do about a session that failed,
// or returns "" if it did not.
func (r *Record) Hint() string { return r.advice().hint }

// failed reports whether a session did not end as sessions should.
func (r *Record) failed() bool { return !slices.Contains(fine, r.Outcome) }

var fine = []Outcome{Completed, ClientClosed, Shutdown}

// An advice is what to say of the sessions that fit: those that have all of its
// first four fields that are set.
type advice struct {
	outcome   Outcome
	violation string
	phase     Phase
	when      func(error) bool
	hint      string
	noise     bool // the Internet does it all day long, to everybody
}

func (r *Record) advice() *advice {
	if !r.failed() {
		return &advice{}
	}
	for i := range advices {
		if a := &advices[i]; a.fits(r) {
			return a
		}
	}
	return &advice{}
}

func (a *advice) fits(r *Record) bool {
	return (a.outcome == "" || a.outcome == r.Outcome) &&
		(a.violation == "" || a.violation == r.Violation) &&
		(a.phase == "" || a.phase == r.Phase) &&
		(a.when == nil || r.Err != nil && a.when(r.Err))
}

// advices are tried in this order: the first that fits is given, so whoever says
// more stands before who says less. They follow the course of a session.
var advices = []advice{
	{outcome: Internal, hint: "a defect of smtpseal: please report it, with the log line before this one"},

	// The client is let in.
	{outcome: Refused, when: is(errMaxSessions), hint: "more sessions than limits.max_sessions: raise it if they are real, and look for who has so many if not"},
	{outcome: Refused, when: is(errMaxPerClient), hint: "one address has more sessions than limits.max_sessions_per_client: raise it if many users share the address; if it is your load balancer, set accept_proxy"},
	{outcome: Refused, hint: "over a limit: see limits in the configuration"},
	{violation: noClientAddress, hint: "a unix socket's peer has no address that the backend could be told: let the program in front send a PROXY header and set accept_proxy: [unix] for this listener, or proxy_protocol: off for its backend"},
	{violation: badProxyHeader, when: is(errLocalPeer), hint: "the program in front connects for itself (a health check?), and its unix socket has no address that the backend could be told: let it check by a TCP listener, or set proxy_protocol: off for this listener's backend"},
	{violation: badProxyHeader, when: is(os.ErrDeadlineExceeded), hint: "a peer that accept_proxy names sent no PROXY header in time: turn the header on there, or narrow accept_proxy"},
	{violation: badProxyHeader, when: is(proxyproto.ErrNoProxyProtocol), hint: "a peer that accept_proxy names speaks without a PROXY header: turn the header on there, or narrow accept_proxy"},
	{violation: badProxyHeader, hint: "a peer that accept_proxy names sent a PROXY header that cannot be used: let it send version 1 or 2 with the client's TCP address"},

	// It does not speak what the port speaks.
	{violation: junk, when: is(errPROXY), hint: "if this client is your load balancer, add its network to accept_proxy of this listener; else it is an attempt to forge an address, and has failed"},
	{violation: junk, hint: "a web client at a mail port: nothing to do, unless a web proxy of yours is set up for this port", noise: true},
	{outcome: TLSFailed, violation: wrongMode, hint: "no TLS from the first octet: if the client is yours, choose SSL/TLS for this port in its account, or STARTTLS with port 587", noise: true},
	{violation: wrongMode, hint: "TLS from the first octet where STARTTLS is expected: if the client is yours, choose STARTTLS in its account, or SSL/TLS with port 465", noise: true},

	// It speaks before TLS.
	{when: is(errNotReady), hint: "no certificate can be served yet: smtpseal certs list tells which is missing and why"},
	{outcome: NoTLS, hint: "it left a port that demands TLS without asking for it: if the client is yours, turn STARTTLS on in its account", noise: true},
	{outcome: ClientTimeout, phase: PhaseCleartext, hint: "no STARTTLS within timeouts.cleartext: if the client is yours, turn STARTTLS on in its account", noise: true},
	{violation: tooManyCommands, hint: "many commands but no STARTTLS: if the client is yours, turn STARTTLS on in its account", noise: true},
	{violation: cleartextBehind, hint: "refused, as it must be: somebody injects commands, or the client does not wait for the answer to STARTTLS and needs an update"},

	// The handshake.
	{outcome: ClientTimeout, phase: PhaseHandshake, hint: "it did not end its handshake within timeouts.handshake: noise, unless many real clients do it; then the path to them loses packets, or max_handshakes is too low", noise: true},
	{outcome: TLSFailed, when: is(errLeftHandshake), hint: "it left in the handshake: a scanner, or a client that does not like our certificate; if it is yours, look at the client's own message", noise: true},
	{outcome: TLSFailed, when: alerted(unknownCA), hint: "the client does not know the CA of our certificate: let cert_file hold the whole chain, take a certificate of a public CA, or install our CA's root in the client"},
	{outcome: TLSFailed, when: alerted(certificateExpired), hint: "the client takes our certificate for expired: look at smtpseal certs list, and at the client's clock"},
	{outcome: TLSFailed, when: alerted(badCertificate, unsupportedCertificate, certificateRevoked, certificateUnknown), hint: "the client does not accept our certificate: mostly the name in its account is none of the certificate's (smtpseal certs list), or it does not know the CA"},
	{outcome: TLSFailed, when: either(saying("only unsupported versions"), alerted(protocolVersion)), hint: "its TLS is too old, or ours: if the client is a printer or the like of yours, set tls_policy: legacy for a listener of its own", noise: true},
	{outcome: TLSFailed, when: either(saying("no cipher suite"), saying("no key exchanges"), saying("signature algorithms")), hint: "client and listener have no cipher or key in common: if the client is yours, give the certificate key_types: [p256, rsa2048] or the listener tls_policy: legacy", noise: true},
	{outcome: TLSFailed, when: saying("application protocols"), hint: "it offers ALPN protocols but not smtp: a web client at a mail port, nothing to do", noise: true},
	{outcome: TLSFailed, when: saying("didn't provide a certificate"), hint: "the client has no certificate, and client_auth of this listener demands one: install one there, or set client_auth: request"},
	{outcome: TLSFailed, when: unverified, hint: "the client's certificate is not by a CA of client_ca_file, or has expired: issue it anew, or add its CA"},
	{outcome: TLSFailed, hint: "the handshake failed: if the client is yours, compare what it can do with tls_policy of this listener; else it is noise", noise: true},

	// The backend is looked for.
	{phase: PhaseDial, when: isDNS, hint: "the backend's name cannot be resolved: correct servers of this listener's backend, or the name service of this host"},
	{phase: PhaseDial, when: is(syscall.ECONNREFUSED), hint: "nothing listens at the backend's address: start the mail server, or correct servers of this listener's backend"},
	{phase: PhaseDial, when: is(fs.ErrNotExist), hint: "the backend's unix socket does not exist: start the mail server, or correct servers of this listener's backend"},
	{phase: PhaseDial, when: is(fs.ErrPermission), hint: "smtpseal may not connect to the backend: let its user at the socket, or the firewall let it through"},
	{phase: PhaseDial, when: either(is(syscall.EMFILE), is(syscall.ENFILE)), hint: "no file descriptors are left: raise their limit (systemd: LimitNOFILE=) or lower limits.max_sessions"},
	{phase: PhaseDial, when: either(is(syscall.EHOSTUNREACH), is(syscall.ENETUNREACH)), hint: "there is no route to the backend: look at the network, or correct servers of this listener's backend"},
	{phase: PhaseDial, when: isTimeout, hint: "the backend's host does not answer: it is down, or a firewall swallows packets; else correct servers of this listener's backend"},
	{outcome: BackendUnreachable, phase: PhaseDial, hint: "the backend cannot be reached: look at error, at the mail server, and at servers of this listener's backend"},

	// It greets.
	{outcome: BackendUnreachable, violation: backendMismatch, hint: "connected, but no greeting within timeouts.greeting: proxy_protocol of this listener's backend and the mail server's own setting do not agree (smtpseal recipe prints its side), or the mail server hangs: its log, its DNS"},
	{outcome: BackendRefused, violation: backendMismatch, hint: "refused after seconds of silence: the mail server waits for a PROXY header; set proxy_protocol: v2 for this listener's backend, or turn it off there"},
	{outcome: BackendClosed, violation: backendMismatch, hint: "closed in place of a greeting: proxy_protocol of this listener's backend and the mail server's own setting do not agree (smtpseal recipe prints its side), or it is overloaded and its log says so"},
	{violation: backendMismatch, hint: "the mail server takes the PROXY header for a command: turn the PROXY protocol on there (smtpseal recipe prints how), or set proxy_protocol: off for this listener's backend"},
	{outcome: BackendRefused, when: isForNow, hint: "the mail server takes nobody, or not this client, for now, in the words in error: look for a limit of its own that is reached, or a lack of memory or disk; clients try again"},
	{outcome: BackendRefused, hint: "the mail server turned the client away in its greeting, in the words in error: its log has the reason, which may be this client alone"},
	{outcome: BackendUnreachable, hint: "no mail server spoke: look whether one runs at servers of this listener's backend"},

	// Both talk.
	{outcome: BackendClosed, when: isForbidden, hint: "the mail server ended the session at a command that it forbids: mostly somebody who speaks HTTP to it, nothing to do; if the client is a mail program of yours, error has the mail server's words"},
	{outcome: BackendClosed, when: isGoodbye, hint: "the mail server ended the session in the words in error: a limit or time-out of its own, or it was stopped; its log has the reason"},
	{outcome: BackendClosed, phase: PhaseBody, when: is(errBackendSilent), hint: "the mail server took no more of a message for timeouts.body: look for a full disk, a slow content filter or a stopped process there"},
	{outcome: BackendClosed, when: is(errBackendSilent), hint: "no reply within timeouts.reply: look for a slow content filter, DNS or a full disk at the mail server; clients try again"},
	{outcome: BackendClosed, hint: "the mail server went in mid-session: it crashed, was restarted or was killed; its log has the reason, clients try again"},
	{violation: badReply, hint: "what the backend answered is no SMTP, or no answer to the command: look whether servers names a mail server's port, and not IMAP, LMTP or a TLS port"},
	{violation: unasked, hint: "the mail server sent a reply too many, so the session was ended before answers were mixed up: update it, or take out what stands between"},
	{outcome: ClientTimeout, when: is(errTooLong), hint: "a session as long as timeouts.session: if it is real, raise that"},
	{outcome: ClientTimeout, phase: PhaseBody, hint: "nothing of a message came for timeouts.body: the path to the client loses large packets (MTU, a firewall), or the client hangs"},
	{outcome: ClientTimeout, phase: PhaseAuth, hint: "it was silent in the middle of AUTH for timeouts.command: the client waits for its user, or does not know the mechanism"},
	{outcome: ClientTimeout, phase: PhaseCommand, hint: "it was silent for timeouts.command: a client that keeps connections open; it comes again", noise: true},
	{outcome: ClientTimeout, hint: "it did not take our answer in time: the path to the client is broken, or the client hangs", noise: true},
	{violation: smuggling, hint: "a message with a line end that would split it in two was refused (SMTP smuggling): an attack, or a program that must learn to end lines with CRLF; the message was not delivered"},
	{violation: badChunk, hint: "a BDAT size that not everybody reads the same was refused: an attack, or a client that needs an update"},
	{violation: unwelcomeRefused, hint: "it asked again and again for commands that are not allowed here: an attack, or a client that needs an update", noise: true},
	{violation: badLine, hint: "a command line that is too long, or has NUL or a bare CR in it: an attack, or a broken client", noise: true},
}

// Alerts (RFC 8446 section 6.2) by which a client says what it does not like.
const (
	badCertificate         tls.AlertError = 42
	unsupportedCertificate tls.AlertError = 43
	certificateRevoked     tls.AlertError = 44
	certificateExpired     tls.AlertError = 45
	certificateUnknown     tls.AlertError = 46
	unknownCA              tls.AlertError = 48
	protocolVersion        tls.AlertError = 70
)

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func either(conditions ...func(error) bool) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(conditions, func(fits func(error) bool) bool { return fits(err) })
	}
}

// alerted reports whether the client sent one of the alerts. Their type is
// hidden in crypto/tls outside of QUIC, but they call themselves the same.
func alerted(alerts ...tls.AlertError) func(error) bool {
	return func(err error) bool {
		var op *net.OpError
		return errors.As(err, &op) && op.Op == "remote error" &&
			slices.ContainsFunc(alerts, func(a tls.AlertError) bool { return op.Err.Error() == a.Error() })
	}
}

// saying looks for words of crypto/tls, which has no types for these errors. A
// test makes each of them, so that a change of words does not pass unseen.
func saying(words string) func(error) bool {
	return func(err error) bool { return strings.Contains(err.Error(), words) }
}

func unverified(err error) bool {
	var e *tls.CertificateVerificationError
	return errors.As(err, &e)
}

func isDNS(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e)
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func isGoodbye(err error) bool {
	var e goodbye
	return errors.As(err, &e)
}

// isForbidden is for 221 to what is not QUIT: see passLast.
func isForbidden(err error) bool {
	var e goodbye
	return errors.As(err, &e) && strings.HasPrefix(e.words, "221")
}

func isForNow(err error) bool {
	var e turnedAway
	return errors.As(err, &e) && e.code < 500
}
