package proxy

import (
	"errors"

	"smtpseal/proxy/smtp"
)

// Bounds before TLS: a client that only wants to upgrade needs two commands
// and a second; a flood of them costs processor time and log.
const (
	maxCleartext = 20
	maxJunk      = 3
)

// cleartext speaks SMTP with the client until STARTTLS (RFC 3207). No backend
// hears of it, and nothing of it is kept.
func (s *session) cleartext() error {
	s.reach(PhaseCleartext)
	deadline := s.rec.Start.Add(s.settings.Timeouts.Cleartext)
	s.client.SetDeadline(deadline)
	if err := s.say(greeting); err != nil {
		return err
	}
	for n, strange := 0, 0; n < maxCleartext && strange < maxJunk; n++ {
		c, err := s.clearCommand()
		for err == nil && c.Len == 0 {
			if err = s.rest(deadline, false); err == nil {
				c, err = s.clearCommand()
			}
		}
		if err != nil {
			return s.withoutTLS(err)
		}
		if c.Verb == smtp.Other {
			strange++
		}
		what := answer(&c)
		if s.listener.TLS() == nil {
			what = withoutCertificate(what)
		}
		s.in.took(c.Len)
		if what == readyForTLS && !s.in.empty() {
			return violation(cleartextBehind, behindTLS, "octets in clear behind STARTTLS: an injection, or a client that does not wait")
		}
		if err := s.say(what); err != nil {
			return s.withoutTLS(err)
		}
		switch what {
		case readyForTLS:
			return nil
		case byeReply:
			return s.withoutTLS(&end{outcome: ClientClosed})
		}
	}
	return violation(tooManyCommands, tooMany, "too many commands before STARTTLS")
}

// clearCommand takes the next command; its Len is 0 if it is not complete.
func (s *session) clearCommand() (smtp.Command, error) {
	if err := s.alien(); err != nil {
		return smtp.Command{}, err
	}
	c, err := smtp.Parse(s.in.bytes())
	if err != nil {
		return c, violation(badLine, badCommand, "%w", err)
	}
	return c, nil
}

// answer is what a command hears before TLS.
func answer(c *smtp.Command) sentence {
	switch c.Verb {
	case smtp.EHLO, smtp.HELO:
		if blank(c.Arg) {
			return ehloArgument
		}
		if c.Verb == smtp.EHLO {
			return ehloReply
		}
		return helloReply
	case smtp.STARTTLS:
		if !blank(c.Arg) {
			return noArgument
		}
		return readyForTLS
	case smtp.NOOP, smtp.RSET:
		return okReply
	case smtp.HELP:
		return helpReply
	case smtp.QUIT:
		return byeReply
	}
	return needTLS
}

// withoutCertificate is what is said while STARTTLS cannot be had.
func withoutCertificate(what sentence) sentence {
	switch what {
	case ehloReply:
		return ehloWithout
	case readyForTLS:
		return noTLSNow
	}
	return what
}

func blank(arg []byte) bool {
	for _, c := range arg {
		if c != ' ' && c != '\t' {
			return false
		}
	}
	return true
}

// withoutTLS gives a client that left before TLS its own outcome. If it could
// not have TLS, that is why.
func (s *session) withoutTLS(err error) error {
	var e *end
	if errors.As(err, &e) && e.outcome == ClientClosed {
		e.outcome = NoTLS
		if s.listener.TLS() == nil {
			e.err = errNotReady
		}
	}
	return err
}

// alien ends a session whose client does not speak SMTP.
func (s *session) alien() error {
	switch kind := smtp.AlienIn(s.in.bytes()); kind {
	case smtp.AlienTLS:
		s.wrongMode(s.in.bytes())
		return violation(wrongMode, sentence{}, "the client speaks TLS without STARTTLS")
	case smtp.AlienHTTP:
		return violation(junk, notSMTP, "the client speaks %s", kind)
	case smtp.AlienPROXY:
		return violation(junk, notSMTP, "%w", errPROXY)
	}
	return nil
}
