package mta

import (
	"strconv"
	"strings"
)

// data is RFC 5321 section 4.1.1.4.
func (s *session) data(string) error {
	if s.mail == nil || len(s.mail.To) == 0 || s.mail.Chunks != nil {
		_, err := s.answer("DATA", "503 5.5.1 Error: need RCPT command")
		return err
	}
	yes, err := s.answer("DATA", "354 End data with <CR><LF>.<CR><LF>")
	if err != nil || !yes {
		return err
	}
	said, err := s.readBody(&dots{lenient: s.server.config.Lenient})
	if err != nil || said {
		return err
	}
	return s.accept(EndOfData)
}

// bdat is RFC 3030 section 2. The octets are read whatever the answer.
func (s *session) bdat(argument string) error {
	fields := strings.Fields(argument)
	if len(fields) == 0 {
		_, err := s.answer("BDAT", "501 5.5.4 Syntax: BDAT count [LAST]")
		return err
	}
	count, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || count < 0 {
		_, err := s.answer("BDAT", "501 5.5.4 Syntax: BDAT count [LAST]")
		return err
	}
	said, err := s.readBody(&counted{left: count})
	if err != nil || said {
		return err
	}
	if s.mail == nil || len(s.mail.To) == 0 {
		s.dropMail()
		_, err := s.answer("BDAT", "503 5.5.1 Error: need RCPT command")
		return err
	}
	s.mail.Chunks = append(s.mail.Chunks, int(count))
	if len(fields) > 1 && strings.EqualFold(fields[1], "LAST") {
		return s.accept("BDAT")
	}
	_, err = s.answer("BDAT", "250 2.0.0 "+fields[0]+" octets")
	return err
}

// accept ends a transaction with a whole body.
func (s *session) accept(point Point) error {
	if size := s.server.config.Size; size > 0 && int64(len(s.record.Unfinished)) > size {
		s.dropMail()
		_, err := s.answer(point, "552 5.3.4 Message exceeds fixed limit")
		return err
	}
	message := *s.mail
	message.Body = s.record.Unfinished
	number := strconv.Itoa(len(s.server.Messages()) + 1)
	_, err := s.answerOnce(point, "250 2.0.0 Ok: queued as "+number, func() {
		s.server.update(func() { s.server.messages = append(s.server.messages, message) })
	})
	if err == nil {
		s.dropMail()
	}
	return err
}

func (s *session) dropMail() {
	s.mail = nil
	s.server.update(func() { s.record.Unfinished = nil })
}

// A framing knows where a body ends.
type framing interface {
	// take uses up some of octets, which are not empty, and appends what they
	// carry to body. over: the body is complete.
	take(octets, body []byte) (used int, after []byte, over bool)
	// done tells that there is nothing to read at all.
	done() bool
}

// readBody reads one body, or one chunk, into the record's Unfinished. said: a
// fault has answered already, and the body was swallowed.
func (s *session) readBody(framing framing) (said bool, err error) {
	s.server.update(func() { s.record.InBody = true })
	fault, read := s.fault(Body, ""), int64(0)
	for over := framing.done(); !over; {
		if fault != nil && read >= fault.Octets {
			if err := s.perform(fault, fault.text("")); err != nil {
				return true, err
			}
			said, fault = said || fault.Say != "", nil
		}
		if _, err := s.in.Peek(1); err != nil {
			return said, err
		}
		octets, _ := s.in.Peek(s.in.Buffered())
		if fault != nil && int64(len(octets)) > fault.Octets-read {
			octets = octets[:fault.Octets-read]
		}
		var used int
		s.server.update(func() {
			used, s.record.Unfinished, over = framing.take(octets, s.record.Unfinished)
		})
		s.in.Discard(used)
		read += int64(used)
	}
	s.server.update(func() { s.record.InBody = false })
	if said {
		s.dropMail()
	}
	return said, nil
}

// counted is the framing of BDAT.
type counted struct{ left int64 }

func (c *counted) done() bool { return c.left == 0 }

func (c *counted) take(octets, body []byte) (int, []byte, bool) {
	octets = octets[:min(int64(len(octets)), c.left)]
	c.left -= int64(len(octets))
	return len(octets), append(body, octets...), c.left == 0
}
