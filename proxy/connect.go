package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"smtpseal/proxy/backend"
)

// connectAndGreet gives the client its backend and passes the greeting on.
func (s *session) connectAndGreet() error {
	n, err := s.connect()
	if err != nil {
		return err
	}
	return s.relay.pass(n)
}

// connectSilently does the same where the client has had a greeting from us
// and now waits for its own EHLO to be answered: what goes wrong is said then.
func (s *session) connectSilently() error {
	n, err := s.connect()
	if err == nil {
		s.relay.out.took(n)
		return nil
	}
	var e *end
	if !errors.As(err, &e) {
		return err
	}
	if s.relay != nil {
		s.disconnect() // a client that is silent must not hold a backend that is of no use
	}
	deadline := s.until(s.settings.Timeouts.Command)
	for s.in.empty() {
		if gone := s.rest(deadline, false); gone != nil {
			return err
		}
	}
	return err
}

// connect dials, introduces the client and reads the greeting, of which it
// returns the length.
func (s *session) connect() (greeting int, err error) {
	if s.drained() {
		return 0, &end{outcome: Shutdown, say: shuttingDown}
	}
	r, err := s.dial()
	if err != nil {
		return 0, err
	}
	n, err := r.greeting()
	if err != nil && !s.drained() && !r.meansClient(err) {
		s.listener.Backend.Failed(r.server, fmt.Errorf("greeting: %w", err))
	}
	return n, err
}

// greeting reads the greeting and returns its length.
func (r *relay) greeting() (n int, err error) {
	s := r.s
	s.reach(PhaseGreeting)
	asked := time.Now()
	r.SetDeadline(s.until(s.settings.Timeouts.Greeting))
	n, err = r.wholeReply()
	switch {
	case err == nil && r.replies.Code >= 400 && s.listener.Backend.Proxy == backend.Off && time.Since(asked) >= headerWait:
		return 0, r.waited(n)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, r.mismatch(BackendUnreachable, backend.Silent, err)
	case err != nil:
		return 0, r.lost(err)
	case r.replies.Code != 220:
		return 0, r.refused(n)
	case len(r.out.bytes()) > n:
		return 0, r.mismatch(Violation, backend.Talkative, nil)
	}
	return n, nil
}

// meansClient reports whether a greeting turns away this client, and perhaps no
// other: then nothing is known of the server's health, or one client could take
// a server down. A backend that is told of no clients means all of them, and so
// do codes X.3.X, the system's own state (RFC 3463 section 3.4).
func (r *relay) meansClient(err error) bool {
	var e *end
	const status = len("421 4")
	return errors.As(err, &e) && len(e.quote) > status && r.s.listener.Backend.Proxy != backend.Off &&
		!bytes.HasPrefix(e.quote[status:], []byte(".3."))
}

func (s *session) drained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *session) dial() (*relay, error) {
	s.reach(PhaseDial)
	start := time.Now()
	b := s.listener.Backend
	facts := backend.Facts{Client: s.rec.Client, Local: s.local, ID: s.rec.Session}
	if s.sealed {
		state := s.client.tls.ConnectionState()
		facts.TLS = &state
	}
	ctx, done := s.untilAborted()
	defer done()
	born, err := b.DialContext(ctx, s.until(s.settings.Timeouts.Dial), facts)
	s.rec.Dials = append(s.rec.Dials, time.Since(start))
	if err != nil {
		return nil, &end{outcome: BackendUnreachable, say: unavailable, err: fmt.Errorf("backend %s: %w", b.Name, err)}
	}
	s.rec.Backend = born.Server.String()
	s.rec.LeftOut = born.Dropped.Count()
	r := newRelay(s, born, facts.TLS)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay = r
	if s.aborted {
		r.reset() // the abort could not reach what was not there yet
	}
	return r, nil
}

// untilAborted is a context for a dial: there is no connection yet that abort
// could close.
func (s *session) untilAborted() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp = cancel
	if s.aborted {
		cancel()
	}
	return ctx, cancel
}

// mismatch ends a session whose backend behaves as one does that expects
// another PROXY header, or none.
func (r *relay) mismatch(outcome Outcome, symptom backend.Symptom, cause error) error {
	err := errors.New(r.s.listener.Backend.Mismatch(symptom))
	if cause != nil && !errors.Is(cause, io.EOF) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return &end{outcome: outcome, violation: backendMismatch, say: unavailable, err: err}
}

// headerWait is how long a backend waits at least for a PROXY header before it
// gives up: Exim 3 s, Postfix 5 s. It then refuses the client.
const headerWait = 2500 * time.Millisecond

// waited is refused for a backend that seems to have waited for a PROXY header.
func (r *relay) waited(n int) error {
	words := printable(firstLine(r.out.bytes()[:n]))
	return r.mismatch(BackendRefused, backend.Waited, fmt.Errorf("it greets with %q", words))
}

// refused ends a session that the backend does not want. Its own words go to
// the client: they may say why (RFC 5321 section 3.1).
func (r *relay) refused(n int) error {
	words := append([]byte(nil), r.out.bytes()[:n]...)
	e := &end{outcome: BackendRefused, say: unavailable, err: turnedAway{r.replies.Code, printable(firstLine(words))}}
	if r.replies.Code >= 400 {
		e.quote = words
	}
	return e
}

func firstLine(b []byte) string {
	for i, c := range b {
		if c == '\r' || c == '\n' {
			return string(b[:i])
		}
	}
	return string(b)
}

func lastLine(b []byte) string {
	b = bytes.TrimRight(b, "\r\n")
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}
