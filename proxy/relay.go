package proxy

import (
	"crypto/tls"
	"net"
	"time"

	"go.uber.org/zap"
	"smtpseal/proxy/backend"
	"smtpseal/proxy/smtp"
)

// A relay takes turns between a client and one backend connection. It and all
// that it knows end with that connection.
type relay struct {
	s      *session
	server backend.Server
	wire
	out         buffer // from the backend, not yet handed back
	replies     smtp.Replies
	rules       smtp.Rules
	spoken      bool // a command has been sent
	chunking    bool // the client was told of CHUNKING
	transaction bool // MAIL was accepted, the message is not through
	open        bool // in mid-message: the backend must not see an end
	refusals    int
	mechanism   string // of the AUTH that is under way
}

// maxRefusals bounds how often a session may ask for what it must not have:
// each is answered by us alone, so nothing else slows a flood of them down.
const maxRefusals = 20

func newRelay(s *session, born backend.Birth, state *tls.ConnectionState) *relay {
	clear := state == nil
	r := &relay{s: s, server: born.Server, rules: smtp.Rules{
		Hide:     s.listener.Backend.Hide,
		Clear:    clear,
		Offer:    clear && s.listener.TLS() != nil,
		External: state != nil && len(state.VerifiedChains) > 0,
	}}
	r.wire.init(born.Conn)
	return r
}

// converse takes turns until one side has had enough, or TLS is asked for.
func (s *session) converse() error {
	for {
		err := s.relay.await()
		if err == nil {
			err = s.relay.turn()
		}
		if err == errSTARTTLS {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// await waits for a command. The deadline is over the whole wait: one a read
// would let a client hold its place with an octet now and then.
//
// A session spends its life here, so little must stand on the stack: with twice
// what there is now the runtime could not shrink it to 4 KiB.
func (r *relay) await() error {
	s := r.s
	s.reach(PhaseCommand)
	if smtp.Whole(s.in.bytes()) && (r.transaction || !s.drained()) {
		return nil // a drain is noticed here too, or a client that never stops talking would not hear of it
	}
	deadline := s.until(s.settings.Timeouts.Command)
	for {
		if err := s.rest(deadline, r.transaction); err != nil {
			return err
		}
		if smtp.Whole(s.in.bytes()) {
			return nil
		}
	}
}

// turn forwards a batch and hands its replies back.
func (r *relay) turn() error {
	s := r.s
	batch, err := r.look()
	if err != nil {
		return err
	}
	last := batch.Last
	if batch.Verdict == smtp.Ours {
		return r.ours(&last)
	}
	r.note(&last)
	first := !r.spoken
	s.reach(PhaseReply)
	if err := r.forward(&batch); err != nil {
		return err
	}
	if last.Verb == smtp.EHLO {
		return r.handBackEHLO(first)
	}
	if err := r.handBack(batch.Commands, batch.Mail, last.Verb); err != nil {
		return err
	}
	switch code := r.replies.Code; {
	case code == 354:
		return r.data()
	case code == 334:
		return r.auth()
	case last.Verb == smtp.AUTH && code == 235:
		s.rec.Auth = r.mechanism
	case last.Verb == smtp.HELO && code == 250:
		r.chunking = false
	case last.Verb == smtp.QUIT && code == 221:
		return &end{outcome: Completed}
	}
	return nil
}

// look takes the next batch.
func (r *relay) look() (smtp.Batch, error) {
	if !r.spoken {
		if err := r.s.alien(); err != nil {
			return smtp.Batch{}, err
		}
	}
	batch, err := r.rules.Next(r.s.in.bytes())
	if err != nil {
		return batch, violation(badLine, badCommand, "%w", err)
	}
	return batch, nil
}

// note keeps what the log line tells of a command.
func (r *relay) note(c *smtp.Command) {
	s := r.s
	switch c.Verb {
	case smtp.EHLO, smtp.HELO:
		s.rec.Helo = word(c.Arg)
	case smtp.AUTH:
		r.mechanism = word(c.Arg)
	}
	if s.settings.debug {
		// A word that is no verb may be a password that came out of step.
		s.server.log().Debug("command", zap.String("session", s.rec.Session), zap.Stringer("verb", c.Verb))
	}
}

// word returns the first word of an argument.
func word(arg []byte) string {
	start := 0
	for start < len(arg) && arg[start] == ' ' {
		start++
	}
	end := start
	for end < len(arg) && arg[end] != ' ' {
		end++
	}
	return printable(string(arg[start:end]))
}

// forward sends a batch to the backend.
func (r *relay) forward(batch *smtp.Batch) error {
	if batch.Resets {
		r.transaction = false
	}
	return r.put(batch.Len, batch.Bare)
}

// put asks the backend what the client has said in the next n octets, and waits
// until an answer begins. A backend that has spoken before it was asked hears
// nothing more.
func (r *relay) put(n int, bare bool) error {
	s := r.s
	if bare {
		if err := r.quiet(s.settings.Timeouts.Reply); err != nil {
			return err
		}
		r.spoken = true
		err := r.write(s.in.bytes()[:n], bare)
		s.in.took(n)
		return err
	}
	r.SetDeadline(s.until(s.settings.Timeouts.Reply))
	early, err := r.ask(&s.in, n, &r.out)
	if early && err == nil {
		r.poll(&r.out) // the rest of what it says
		return r.unasked()
	}
	r.spoken = r.spoken || !early
	if err != nil {
		return r.lost(err)
	}
	return nil
}

// write sends octets to the backend. A line that ends with LF alone goes out
// with CRLF, so that the backend sees the line that we saw.
func (r *relay) write(b []byte, bare bool) error {
	if bare {
		line := r.out.room() // nothing is owed, so it is free
		n := copy(line, b[:len(b)-1])
		b = line[:n+copy(line[n:], "\r\n")]
		defer r.out.giveBack()
	}
	if _, err := r.Write(b); err != nil {
		return r.lost(err)
	}
	return nil
}

// quiet begins a stage of the backend's, which is to take no longer than d. It
// makes sure that the backend has not spoken while nothing was owed.
func (r *relay) quiet(d time.Duration) error {
	r.SetDeadline(r.s.until(d))
	if err := r.poll(&r.out); err != nil {
		return r.lost(err)
	}
	if !r.out.empty() {
		return r.unasked()
	}
	return nil
}

// ours answers what must not reach the backend.
func (r *relay) ours(c *smtp.Command) error {
	s := r.s
	if c.Verb == smtp.BDAT {
		return r.bdat(c)
	}
	what := notHere
	switch {
	case c.Verb == smtp.STARTTLS && s.sealed:
		what = tlsIsUp
	case c.Verb == smtp.STARTTLS && !blank(c.Arg):
		what = noArgument
	case c.Verb == smtp.STARTTLS && s.listener.TLS() == nil:
		what = noTLSNow
	case c.Verb == smtp.STARTTLS:
		return r.startTLS(c.Len)
	case c.Verb == smtp.AUTH && r.rules.Clear:
		what = authNeedsTLS
	}
	s.in.took(c.Len)
	return r.refuse(what)
}

// refuse answers what a client must not have, a bounded number of times.
func (r *relay) refuse(what sentence) error {
	if r.refusals++; r.refusals > maxRefusals {
		return violation(unwelcomeRefused, tooMany, "too many commands that are not allowed here")
	}
	return r.say(what)
}

func (r *relay) say(what sentence) error { return r.toClient(what.line(r.s.settings.Hostname)) }

// startTLS ends the relay, because TLS begins a new one.
func (r *relay) startTLS(n int) error {
	r.s.in.took(n)
	if !r.s.in.empty() {
		return violation(cleartextBehind, behindTLS, "octets in clear behind STARTTLS: an injection, or a client that does not wait")
	}
	if err := r.say(readyForTLS); err != nil {
		return err
	}
	return errSTARTTLS
}

// disconnect leaves the backend that served the clear part of a session.
func (s *session) disconnect() error {
	s.relay.quit()
	s.relay.Close()
	s.relay.out.drop()
	s.mu.Lock()
	s.relay = nil
	s.mu.Unlock()
	s.rec.Helo = ""
	return nil
}

// quit says goodbye without waiting for the answer: a connection that just
// ends is a line of warning in the MTA's log.
func (r *relay) quit() {
	r.SetDeadline(r.s.until(lingerTime))
	r.Write([]byte("QUIT\r\n"))
}

// reset makes an end that no MTA can take for the end of a message.
func (r *relay) reset() {
	if tcp, ok := r.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	r.Conn.Close()
}

// close ends the backend connection. In mid-message it is reset, so that no
// MTA can take what it has for the whole.
func (r *relay) close(e *end) {
	if r.open {
		r.reset()
	} else if e.outcome == Shutdown || e.outcome == ClientTimeout {
		r.quit()
	}
	r.Close()
	r.out.drop()
}
