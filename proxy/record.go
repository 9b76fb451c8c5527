package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// A Phase is what a session is doing, or was doing when it ended.
type Phase string

// The phases in the order in which a session can come to them.
const (
	PhaseAccept    Phase = "accept"
	PhaseCleartext Phase = "cleartext"
	PhaseHandshake Phase = "handshake"
	PhaseDial      Phase = "dial"
	PhaseGreeting  Phase = "greeting"
	PhaseCommand   Phase = "command"
	PhaseReply     Phase = "reply"
	PhaseAuth      Phase = "auth"
	PhaseBody      Phase = "body"
)

// Phases are all of them.
var Phases = [...]Phase{PhaseAccept, PhaseCleartext, PhaseHandshake, PhaseDial, PhaseGreeting, PhaseCommand, PhaseReply, PhaseAuth, PhaseBody}

// An Outcome is how a session ended.
type Outcome string

// The outcomes.
const (
	Completed          Outcome = "completed"           // QUIT, answered
	ClientClosed       Outcome = "client_closed"       // the client went without QUIT
	ClientTimeout      Outcome = "client_timeout"      // the client was silent or slow
	NoTLS              Outcome = "no_tls"              // the client left where TLS was demanded
	TLSFailed          Outcome = "tls_failed"          // the handshake came to nothing
	Refused            Outcome = "refused"             // over a limit
	BackendUnreachable Outcome = "backend_unreachable" // no server took the connection, or none spoke
	BackendRefused     Outcome = "backend_refused"     // a greeting other than 220
	BackendClosed      Outcome = "backend_closed"      // gone before the session was over
	Violation          Outcome = "violation"           // someone broke the rules: see Record.Violation
	Shutdown           Outcome = "shutdown"            // we were told to stop
	Internal           Outcome = "internal"            // a defect of ours
)

// Outcomes are all there are, for who counts by them.
var Outcomes = [...]Outcome{Completed, ClientClosed, ClientTimeout, NoTLS, TLSFailed, Refused,
	BackendUnreachable, BackendRefused, BackendClosed, Violation, Shutdown, Internal}

// A Record is what happened in one session. Its steps only assign to it.
type Record struct {
	Session   string
	Listener  string
	Client    netip.AddrPort
	Backend   string // the server that was connected to
	Phase     Phase
	Outcome   Outcome
	Violation string // its kind, or ""
	Err       error

	TLS        bool   // the handshake was completed
	Version    uint16 // agreed, even if the handshake failed then
	Cipher     uint16
	Curve      tls.CurveID
	Resumed    bool
	ServerName string

	Helo     string
	Auth     string // the mechanism
	Messages int    // accepted by the backend
	BytesIn  int64  // from the client, without TLS
	BytesOut int64  // to the client, without TLS
	LeftOut  int    // facts that did not fit into the PROXY header

	Start     time.Time
	Duration  time.Duration
	Handshake time.Duration
	Dials     []time.Duration // at most two: the second is behind STARTTLS
}

// An Observer is told once of each session, when it is over. It may be called
// by many goroutines at once and must not keep the Record.
type Observer interface {
	SessionEnded(*Record)
}

// LogObserver writes the one line of a session to log. What is known to be
// noise of the Internet, a failed handshake, is written at debug.
func LogObserver(log *zap.Logger) Observer { return logObserver{log} }

type logObserver struct{ log *zap.Logger }

func (o logObserver) SessionEnded(r *Record) {
	level := zap.InfoLevel
	switch {
	case r.Outcome == Internal:
		level = zap.ErrorLevel
	case r.closedToAll():
		level = zap.WarnLevel
	case r.Outcome == TLSFailed:
		level = zap.DebugLevel
	}
	if entry := o.log.Check(level, "session closed"); entry != nil {
		entry.Write(r.fields()...)
	}
}

// closedToAll reports whether what ended the session lets nobody through.
func (r *Record) closedToAll() bool {
	return r.Outcome == BackendUnreachable || r.Violation == backendMismatch || r.Violation == noClientAddress ||
		r.Violation == badReply && r.Phase == PhaseGreeting || errors.Is(r.Err, errNotReady)
}

// fields are those of the log line; what a session never came to is left out.
func (r *Record) fields() []zap.Field {
	f := make([]zap.Field, 0, 24)
	text := func(name, value string) {
		if value != "" {
			f = append(f, zap.String(name, value))
		}
	}
	text("session", r.Session)
	text("listener", r.Listener)
	if r.Client.IsValid() {
		text("client", r.Client.String())
	}
	text("backend", r.Backend)
	text("phase", string(r.Phase))
	text("outcome", string(r.Outcome))
	text("violation", r.Violation)
	text("error", r.cause())
	text("hint", r.Hint())
	text("tls_version", r.version())
	if r.TLS {
		text("tls_cipher", tls.CipherSuiteName(r.Cipher))
		if r.Curve != 0 { // RSA key exchange has none
			text("tls_curve", r.Curve.String())
		}
		f = append(f, zap.Bool("tls_resumed", r.Resumed))
	}
	text("server_name", r.ServerName)
	text("helo", r.Helo)
	text("auth", r.Auth)
	f = append(f, zap.Int("messages", r.Messages), zap.Int64("bytes_in", r.BytesIn), zap.Int64("bytes_out", r.BytesOut))
	if r.LeftOut > 0 {
		f = append(f, zap.Int("proxy_left_out", r.LeftOut))
	}
	f = append(f, zap.Duration("duration", r.Duration))
	if r.Handshake > 0 {
		f = append(f, zap.Duration("handshake", r.Handshake))
	}
	if len(r.Dials) > 0 {
		var all time.Duration
		for _, d := range r.Dials {
			all += d
		}
		f = append(f, zap.Duration("dial", all))
	}
	return f
}

// maxCause bounds in octets what is told of an error: crypto/tls quotes what a
// client offered, which may fill a ClientHello of 64 KiB.
const maxCause = 1000

// cause is the error in words.
func (r *Record) cause() string {
	if r.Err == nil {
		return ""
	}
	words := r.Err.Error()
	return words[:min(len(words), maxCause)]
}

// version names the TLS version, "" if there is none.
func (r *Record) version() string {
	if r.Version == 0 {
		return ""
	}
	return tls.VersionName(r.Version)
}

// MultiObserver tells each of several observers.
type MultiObserver []Observer

// SessionEnded passes r on.
func (m MultiObserver) SessionEnded(r *Record) {
	for _, o := range m {
		o.SessionEnded(r)
	}
}
