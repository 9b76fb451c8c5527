package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// An end is why a session is over: it is the only error that steps return.
type end struct {
	outcome   Outcome
	violation string   // its kind, if a rule was broken
	say       sentence // to the client, or nothing
	quote     []byte   // the backend's own words, in place of say
	err       error
}

func (e *end) Error() string {
	if e.err == nil {
		return string(e.outcome)
	}
	return e.err.Error()
}

// Kinds of violations, as the counter smtpseal_violations_total has them.
const (
	backendMismatch  = "backend_proxy_mismatch"
	badReply         = "backend_bad_reply"
	unasked          = "backend_unasked_reply"
	smuggling        = "smuggling"
	cleartextBehind  = "cleartext_behind_starttls"
	badLine          = "bad_command_line"
	badChunk         = "bad_bdat"
	tooManyCommands  = "too_many_commands"
	junk             = "junk"
	wrongMode        = "wrong_mode"
	badProxyHeader   = "bad_proxy_header"
	noClientAddress  = "no_client_address"
	unwelcomeRefused = "too_many_refused_commands"
)

// ViolationKinds are all there are, for who counts by them.
var ViolationKinds = []string{
	backendMismatch, badReply, unasked, smuggling, cleartextBehind, badLine, badChunk,
	tooManyCommands, junk, wrongMode, badProxyHeader, noClientAddress, unwelcomeRefused,
}

func violation(kind string, say sentence, format string, args ...any) *end {
	return &end{outcome: Violation, violation: kind, say: say, err: fmt.Errorf(format, args...)}
}

// What went wrong, where an operator must do something else about each.
var (
	errMaxSessions   = errors.New("limits.max_sessions is reached")
	errMaxPerClient  = errors.New("limits.max_sessions_per_client is reached")
	errNoAddress     = errors.New("a unix socket's peer has no address, and proxy_protocol demands one")
	errLocalPeer     = errors.New("PROXY header LOCAL or UNKNOWN: a unix socket's peer has no address of its own, and proxy_protocol demands one")
	errPROXY         = errors.New("the client sends a PROXY header: if it is your load balancer, add its network to accept_proxy of this listener")
	errNotReady      = errors.New("there is no certificate to serve yet")
	errLeftHandshake = errors.New("the client closed the connection in the handshake")
	errTooLong       = errors.New("the session has lasted as long as timeouts.session allows")
	errBackendSilent = errors.New("the backend did not answer in time")
)

// A goodbye is a refusal by which a backend takes its leave.
type goodbye struct{ words string }

func (g goodbye) Error() string { return fmt.Sprintf("the backend said %q and left", g.words) }

// A turnedAway is a greeting that is none.
type turnedAway struct {
	code  int
	words string
}

func (t turnedAway) Error() string { return fmt.Sprintf("the backend greets with %q", t.words) }

// errSTARTTLS is no failure: the client asked for TLS, and the relay is over.
var errSTARTTLS = errors.New("STARTTLS")

// errCutOff is why a session was ended that a drain could not wait for.
var errCutOff = errors.New("cut off: the time for a drain (timeouts.shutdown) is over, or a second signal came")

// clientGone says how reading from or writing to the client failed.
func clientGone(err error) *end {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &end{outcome: ClientTimeout, say: timedOut, err: errors.New("the client was silent or slow for too long")}
	case errors.Is(err, io.EOF):
		return &end{outcome: ClientClosed, err: errors.New("the client closed the connection")}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &end{outcome: ClientClosed, err: errors.New("the client closed the connection without TLS close_notify")}
	}
	return &end{outcome: ClientClosed, err: fmt.Errorf("client: %w", err)}
}

// backendGone says how reading from or writing to the backend failed.
func backendGone(err error) *end {
	e := &end{outcome: BackendClosed, say: backendLost}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.err = errBackendSilent
	case errors.Is(err, io.EOF):
		e.err = errors.New("the backend closed the connection")
	default:
		e.err = fmt.Errorf("backend: %w", err)
	}
	return e
}
