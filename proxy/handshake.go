package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"time"
)

// A turnstile lets a bounded number of handshakes compute at once, so that a
// flood of them cannot starve the sessions that are up. A handshake that waits
// for its client is outside: slow clients block nobody.
type turnstile struct{ free chan struct{} }

func newTurnstile(n int) *turnstile { return &turnstile{make(chan struct{}, n)} }

// enter waits for a place until deadline.
func (t *turnstile) enter(deadline time.Time) error {
	select {
	case t.free <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case t.free <- struct{}{}:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (t *turnstile) leave() { <-t.free }

// waitInHandshake waits for the client's next octets outside the turnstile.
func (s *sealed) waitInHandshake() error {
	if s.inside {
		s.inside = false
		s.handshakes.leave()
	}
	if err := s.wire.fill(&s.cipher); err != nil {
		return err
	}
	if err := s.handshakes.enter(s.deadline); err != nil {
		return err
	}
	s.inside = true
	return nil
}

// handshake makes the client's connection a TLS one. The deadline is over the
// whole of it: one a read would start again with every octet.
func (s *session) handshake() error {
	s.reach(PhaseHandshake)
	start := time.Now()
	c := &s.client
	config := s.listener.TLS()
	if config == nil {
		return &end{outcome: TLSFailed, err: errors.New("there is no certificate to serve yet")}
	}
	c.deadline = s.until(s.settings.Timeouts.Handshake)
	c.SetDeadline(c.deadline)
	c.cipher, s.in = s.in, buffer{} // what came behind a PROXY header is the hello
	c.tls = tls.Server(c, config)
	err := c.shakeHands(s.settings.handshakes)
	s.rec.Handshake = time.Since(start)
	state := c.tls.ConnectionState()
	s.rec.Version = state.Version
	if err != nil {
		return s.handshakeFailed(err)
	}
	s.sealed = true
	s.rec.TLS, s.rec.Cipher = true, state.CipherSuite
	s.rec.Curve, s.rec.Resumed, s.rec.ServerName = state.CurveID, state.DidResume, printable(state.ServerName)
	return nil
}

func (s *sealed) shakeHands(t *turnstile) error {
	s.handshakes = t
	defer func() {
		if s.inside {
			s.inside = false
			t.leave()
		}
		s.handshakes = nil
	}()
	return s.tls.Handshake()
}

func (s *session) handshakeFailed(err error) error {
	var notTLS tls.RecordHeaderError
	if errors.As(err, &notTLS) {
		s.wrongMode(notTLS.RecordHeader[:])
		return &end{outcome: TLSFailed, violation: wrongMode, err: errors.New("the client does not speak TLS")}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &end{outcome: ClientTimeout, err: errors.New("the handshake took too long")}
	}
	if errors.Is(err, io.EOF) || isReset(err) {
		return &end{outcome: TLSFailed, err: errors.New("the client closed the connection in the handshake")}
	}
	return &end{outcome: TLSFailed, err: err}
}
