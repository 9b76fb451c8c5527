package proxy

import "smtpseal/proxy/smtp"

// data passes a message on, octet for octet, to CRLF "." CRLF (RFC 5321 section
// 4.5.2). If the client goes, or tries to smuggle, the backend never sees an
// end. If the backend goes, the rest is read and thrown away, so that the
// client hears why when it listens again.
func (r *relay) data() error {
	s := r.s
	s.reach(PhaseBody)
	r.open = true
	var body smtp.Body
	var lost error
	for {
		n, found := body.Scan(s.in.bytes())
		lost = r.block(n, lost)
		switch found {
		case smtp.End:
			return r.delivered(lost, true)
		case smtp.Smuggled:
			return violation(smuggling, smuggled, "SMTP smuggling: a dot alone between line ends that are not both CRLF")
		}
		if err := r.more(); err != nil {
			return cause(lost, err)
		}
	}
}

// cause is why a message ended that did not come whole: a client that tires of a
// backend which takes no more is not the one to blame.
func cause(lost, gone error) error {
	if lost != nil {
		return lost
	}
	return gone
}

// bdat passes a chunk on (RFC 3030): its octets follow the command whatever
// the reply.
func (r *relay) bdat(c *smtp.Command) error {
	s := r.s
	line := s.in.bytes()[:c.Len]
	size, last, ok := c.Chunk(line)
	if !ok {
		return violation(badChunk, badChunkSize, "BDAT with a size that not everybody reads the same")
	}
	if !r.chunking || r.rules.Hide.Has(c.Keyword) {
		s.in.took(c.Len) // its octets are no commands, whatever is said of it
		if err := r.swallow(size); err != nil {
			return err
		}
		return r.refuse(notAnnounced)
	}
	if err := r.quiet(s.settings.Timeouts.Body); err != nil {
		return err
	}
	s.reach(PhaseBody)
	r.spoken, r.open = true, true
	lost := r.write(line, c.Bare)
	s.in.took(c.Len)
	for {
		n := int(min(size, int64(len(s.in.bytes()))))
		lost = r.block(n, lost)
		if size -= int64(n); size == 0 {
			return r.delivered(lost, last)
		}
		if err := r.more(); err != nil {
			return cause(lost, err)
		}
	}
}

// more waits for more of a message: as long as it likes, but never without
// progress.
func (r *relay) more() error {
	s := r.s
	s.setDeadline(s.until(s.settings.Timeouts.Body))
	if err := s.fill(); err != nil {
		return clientGone(err)
	}
	return nil
}

// block sends the next n octets of a message, unless the backend is lost.
func (r *relay) block(n int, lost error) error {
	s := r.s
	if n > 0 && lost == nil {
		r.SetWriteDeadline(s.until(s.settings.Timeouts.Body))
		if _, err := r.Write(s.in.bytes()[:n]); err != nil {
			lost = r.lost(err)
		}
	}
	s.in.took(n)
	return lost
}

// delivered waits for what the backend says of a message or chunk that is
// through; last says that it ends the transaction.
func (r *relay) delivered(lost error, last bool) error {
	s := r.s
	if lost != nil {
		return lost
	}
	s.reach(PhaseReply)
	r.open = false
	r.SetDeadline(s.until(s.settings.Timeouts.Reply))
	r.replies.Code = 0                  // what was said before says nothing of this message
	err := r.handBack(1, -1, smtp.MAIL) // as after MAIL, no "go on" is allowed
	if last {
		r.transaction = false
		if r.replies.Code/100 == 2 {
			s.rec.Messages++
		}
	}
	return err
}

// swallow reads a chunk that goes nowhere.
func (r *relay) swallow(size int64) error {
	s := r.s
	for {
		n := min(size, int64(len(s.in.bytes())))
		s.in.took(int(n))
		if size -= n; size == 0 {
			return nil
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// auth passes lines of an authentication exchange on, one each way while the
// answer is 334 (RFC 4954 section 4). They are secrets: nothing of them is
// kept or logged.
func (r *relay) auth() error {
	s := r.s
	for r.replies.Code == 334 {
		s.reach(PhaseAuth)
		n, bare, err := smtp.Line(s.in.bytes())
		deadline := s.until(s.settings.Timeouts.Command)
		for err == nil && n == 0 {
			if err := s.rest(deadline, true); err != nil {
				return err
			}
			n, bare, err = smtp.Line(s.in.bytes())
		}
		if err != nil {
			return violation(badLine, badCommand, "in an AUTH exchange: %w", err)
		}
		if err := r.put(n, bare); err != nil {
			return err
		}
		if err := r.handBack(1, -1, smtp.AUTH); err != nil {
			return err
		}
	}
	if r.replies.Code == 235 {
		s.rec.Auth = r.mechanism
	}
	return nil
}
