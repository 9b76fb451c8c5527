package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"smtpseal/proxy/smtp"
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
		return &end{outcome: TLSFailed, err: errNotReady}
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
		return s.notTLS(notTLS.RecordHeader[:])
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &end{outcome: ClientTimeout, err: errors.New("the handshake took too long")}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) {
		return &end{outcome: TLSFailed, err: errLeftHandshake}
	}
	if alert := s.client.alert; alert != 0 && s.client.tls.ConnectionState().Version >= tls.VersionTLS13 {
		// OpenSSL speaks in clear until its Finished, so what it does not like about
		// our certificate is a bad record to crypto/tls.
		err = &net.OpError{Op: "remote error", Err: tls.AlertError(alert)}
	}
	return &end{outcome: TLSFailed, err: err}
}

// notTLS ends a session whose client begins with something else. A load balancer
// that nobody has named is told apart: with it nobody gets through.
func (s *session) notTLS(first []byte) error {
	switch alien := smtp.AlienIn(first); {
	case alien == smtp.AlienPROXY || string(first) == "PROXY":
		return &end{outcome: Violation, violation: junk, err: errPROXY}
	case alien == smtp.AlienHTTP:
		return &end{outcome: TLSFailed, violation: junk, err: fmt.Errorf("the client speaks %s", alien)}
	}
	s.wrongMode(first)
	return &end{outcome: TLSFailed, violation: wrongMode, err: errors.New("the client does not speak TLS")}
}
