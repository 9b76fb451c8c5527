package proxy

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"go.uber.org/zap"
	"smtpseal/proxy/backend"
	"smtpseal/proxy/smtp"
)

// handBack passes exactly owed replies on to the client, as they come. mail is
// which of them answers MAIL (or -1), verb the command that ended the batch.
// Afterwards r.replies.Code is the code of the last one.
func (r *relay) handBack(owed, mail int, verb smtp.Verb) error {
	scanned := 0
	for answered := 0; answered < owed; {
		n, last, err := r.replies.Line(r.out.bytes()[scanned:])
		if err != nil {
			return r.notSMTP(err)
		}
		if n == 0 {
			if err := r.pass(scanned); err != nil {
				return err
			}
			scanned = 0
			if err := r.fill(&r.out); err != nil {
				return r.lost(err)
			}
			continue
		}
		scanned += n
		if !last {
			continue
		}
		if answered++; answered < owed {
			r.SetDeadline(r.s.until(r.s.settings.Timeouts.Reply)) // a stage is one reply
		}
		code := r.replies.Code
		if code/100 == 3 && !(answered == owed && goesOn(verb, code)) {
			return r.notSMTP(fmt.Errorf("reply %d to %s", code, verb))
		}
		if verb == smtp.QUIT && code == 221 && answered == owed {
			r.s.client.hold()
		}
		if answered-1 == mail {
			r.transaction = code/100 == 2
		}
	}
	return r.passLast(scanned, verb)
}

// goesOn reports whether a command may be answered by "go on": 354 to DATA, and
// 334 to AUTH or to what an extension may have that is like it.
func goesOn(verb smtp.Verb, code int) bool {
	switch verb {
	case smtp.DATA:
		return code == 354
	case smtp.AUTH, smtp.Other:
		return code == 334
	}
	return false
}

// handBackEHLO edits the reply to EHLO on its way.
func (r *relay) handBackEHLO(first bool) error {
	n, err := r.wholeReply()
	if err != nil {
		return r.lost(err)
	}
	if first && r.refusesHeader() {
		// The refusal of a PROXY v1 line, taken for a command, can come as late as
		// this, alone or with the answer to EHLO; and Exim answers so when it has
		// missed its header. Who speaks the PROXY protocol knows EHLO.
		err := r.mismatch(Violation, backend.Confused, nil)
		r.s.listener.Backend.Failed(r.server, fmt.Errorf("EHLO: %w", err))
		return err
	}
	if len(r.out.bytes()) > n {
		return r.unasked()
	}
	if r.replies.Code != 250 {
		return r.passLast(n, smtp.EHLO)
	}
	if first {
		r.s.listener.Backend.Served(r.server)
	}
	reply, chunking := r.rules.EHLO(r.out.bytes())
	r.chunking = chunking
	if err := r.toClient(reply); err != nil {
		return err
	}
	r.out.took(n)
	return nil
}

// refusesHeader reports whether the answer to the first EHLO looks like one to our
// PROXY header.
func (r *relay) refusesHeader() bool {
	code := r.replies.Code
	return (code == 500 || code == 503) && r.s.listener.Backend.Proxy != backend.Off
}

// wholeReply waits until a whole reply stands at the front of out, and returns
// its length. The bound is the storage, less what EHLO may add.
func (r *relay) wholeReply() (n int, err error) {
	for {
		k, last, err := r.replies.Line(r.out.bytes()[n:])
		if err != nil {
			return 0, r.notSMTP(fmt.Errorf("%w: %q", err, printable(firstLine(r.out.bytes()[n:]))))
		}
		if n += k; last {
			return n, nil
		}
		if k > 0 {
			continue
		}
		if r.out.w-r.out.r > smallSize-smtp.MaxOffer {
			return 0, r.notSMTP(errors.New("reply too long"))
		}
		if err := r.fill(&r.out); err != nil {
			return 0, err
		}
	}
}

// pass hands n octets of out to the client.
func (r *relay) pass(n int) error {
	if n == 0 {
		return nil
	}
	err := r.toClient(r.out.bytes()[:n])
	r.out.took(n)
	return err
}

// passLast hands back the last octets that are owed; a backend that has said
// more than that is out of step. It may leave with 421 at any time (RFC 5321
// section 3.8); Postfix leaves with 221 when it is spoken to in HTTP.
func (r *relay) passLast(n int, verb smtp.Verb) error {
	if r.s.settings.debug {
		r.s.server.log().Debug("reply", zap.String("session", r.s.rec.Session), zap.Int("code", r.replies.Code))
	}
	var words string
	leaves := r.replies.Code == 421 || r.replies.Code == 221 && verb != smtp.QUIT
	if leaves {
		words = printable(lastLine(r.out.bytes()[:n]))
	}
	if err := r.pass(n); err != nil {
		return err
	}
	if leaves {
		return &end{outcome: BackendClosed, err: goodbye{words}}
	}
	if !r.out.empty() {
		return r.unasked()
	}
	return nil
}

// toClient leaves the client half the time of a command to take b, even if the
// deadline of the command itself is near or past.
func (r *relay) toClient(b []byte) error {
	s := r.s
	if time.Until(s.deadline) < s.settings.Timeouts.Command/2 {
		s.setDeadline(s.until(s.settings.Timeouts.Command))
	}
	return s.send(b)
}

func (r *relay) notSMTP(err error) error {
	return violation(badReply, backendLost, "the backend's reply is no SMTP, or not to this command: %w", err)
}

// unasked ends a session whose backend says what nobody asked for: from here on
// nobody knows which reply belongs to which command. A 421 is its goodbye (RFC
// 5321 section 3.8) and is passed on.
func (r *relay) unasked() error {
	if e := r.goodbye(); e != nil {
		return e
	}
	if !r.spoken {
		return r.mismatch(Violation, backend.Talkative, nil)
	}
	return violation(unasked, backendLost, "the backend sent a reply when none was owed")
}

// lost ends a session whose backend is gone. If it has left a goodbye, the
// client hears that.
func (r *relay) lost(err error) error {
	var e *end
	if errors.As(err, &e) {
		return e
	}
	r.SetReadDeadline(r.s.until(lingerTime)) // the old one may be past
	r.poll(&r.out)
	if e := r.goodbye(); e != nil {
		return e
	}
	if !r.spoken && (errors.Is(err, io.EOF) || isReset(err)) {
		return r.mismatch(BackendClosed, backend.Closed, err)
	}
	return backendGone(err)
}

// goodbye passes a refusal on that stands whole at the front of out.
func (r *relay) goodbye() *end {
	var replies smtp.Replies
	n := 0
	for {
		k, last, err := replies.Line(r.out.bytes()[n:])
		if err != nil || k == 0 {
			return nil
		}
		if n += k; last {
			break
		}
	}
	if replies.Code != 421 && !(r.open && replies.Code >= 400) { // in mid-message: too large, disk full …
		return nil
	}
	words := append([]byte(nil), r.out.bytes()[:n]...)
	return &end{outcome: BackendClosed, quote: words, err: goodbye{printable(firstLine(words))}}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
