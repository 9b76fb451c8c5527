package mta

import (
	"strconv"
	"strings"
)

// verbs are the commands that the server knows. STARTTLS and the trusting
// extensions are answered as if they worked: a proxy that lets them through is
// caught by what follows, and by Connection.Commands.
var verbs = map[string]func(*session, string) error{
	"HELO": (*session).helo, "EHLO": (*session).ehlo, "AUTH": (*session).auth,
	"MAIL": (*session).mailFrom, "RCPT": (*session).rcptTo, "DATA": (*session).data, "BDAT": (*session).bdat,
	"RSET": (*session).rset, "QUIT": (*session).quit,
	"NOOP": fixed("NOOP", "250 2.0.0 Ok"),
	"VRFY": fixed("VRFY", "252 2.0.0 Send and see"),
	"EXPN": fixed("EXPN", "502 5.5.1 Not here"),
	"ETRN": fixed("ETRN", "250 2.0.0 Queuing started"),
	"HELP": fixed("HELP", "214-2.0.0 This is a server for tests\r\n214 2.0.0 End of HELP"),

	"STARTTLS":       fixed("STARTTLS", "220 2.0.0 Ready to start TLS"),
	"X-ANONYMOUSTLS": fixed("X-ANONYMOUSTLS", "220 2.0.0 SMTP server ready"),
	"XCLIENT":        fixed("XCLIENT", "220 mta.example.test ESMTP"),
	"XFORWARD":       fixed("XFORWARD", "250 2.0.0 Ok"),
	"XEXCH50":        fixed("XEXCH50", "354 Send binary data"),
	"X-EXPS":         fixed("X-EXPS", "334 GSSAPI supported"),
}

func fixed(verb Point, reply string) func(*session, string) error {
	return func(s *session, _ string) error {
		_, err := s.answer(verb, reply)
		return err
	}
}

func (s *session) helo(name string) error {
	yes, err := s.answer("HELO", "250 "+s.server.config.Hostname)
	s.hello(yes, name)
	return err
}

func (s *session) ehlo(name string) error {
	lines := append([]string{s.server.config.Hostname}, s.server.config.Extensions...)
	last := len(lines) - 1
	var reply strings.Builder
	for _, line := range lines[:last] {
		reply.WriteString("250-" + line + "\r\n")
	}
	yes, err := s.answer("EHLO", reply.String()+"250 "+lines[last])
	s.hello(yes, name)
	return err
}

func (s *session) hello(yes bool, name string) {
	if yes {
		s.mail = nil
		s.server.update(func() { s.record.Helo = name })
	}
}

func (s *session) mailFrom(argument string) error {
	if !hasPrefixFold(argument, "FROM:") {
		_, err := s.answer("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>")
		return err
	}
	if s.mail != nil {
		_, err := s.answer("MAIL", "503 5.5.1 Error: nested MAIL command")
		return err
	}
	if s.tooLarge(argument) {
		_, err := s.answer("MAIL", "552 5.3.4 Message size exceeds fixed limit")
		return err
	}
	yes, err := s.answer("MAIL", "250 2.1.0 Ok")
	if yes {
		s.mail = &Message{
			Connection: s.record.Number, Helo: s.record.Helo, User: s.record.User,
			From: strings.TrimSpace(argument[len("FROM:"):]),
		}
	}
	return err
}

// tooLarge is RFC 1870 section 6.1, the declared size.
func (s *session) tooLarge(argument string) bool {
	for parameter := range strings.FieldsSeq(argument) {
		if hasPrefixFold(parameter, "SIZE=") {
			declared, err := strconv.ParseInt(parameter[len("SIZE="):], 10, 64)
			return err == nil && s.server.config.Size > 0 && declared > s.server.config.Size
		}
	}
	return false
}

func (s *session) rcptTo(argument string) error {
	if s.mail == nil || !hasPrefixFold(argument, "TO:") {
		_, err := s.answer("RCPT", "503 5.5.1 Error: need MAIL command, and TO:<address>")
		return err
	}
	yes, err := s.answer("RCPT", "250 2.1.5 Ok")
	if yes {
		s.mail.To = append(s.mail.To, strings.TrimSpace(argument[len("TO:"):]))
	}
	return err
}

func (s *session) rset(string) error {
	yes, err := s.answer("RSET", "250 2.0.0 Ok")
	if yes {
		s.dropMail()
	}
	return err
}

func (s *session) quit(string) error {
	if _, err := s.answer("QUIT", "221 2.0.0 Bye"); err != nil {
		return err
	}
	// On record before the client has the reply, so that a test that has read
	// the 221 sees a QUIT even if the client then resets.
	s.ended(Quit, nil)
	if err := s.flush(); err != nil {
		return err
	}
	return errQuit
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
