package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// A session is one client's stay (RFC 5321 section 3.1), from accept to
// close. All of it runs in one goroutine; only wake is called from another.
type session struct {
	server   *Server
	settings *generation
	listener *Listener
	rec      Record
	phase    atomic.Int32 // index in Phases of rec.Phase, for others to read
	client   sealed
	local    netip.AddrPort
	in       buffer       // from the client, decrypted, not yet forwarded
	sealed   bool         // the handshake is done
	limit    time.Time    // timeouts.session
	deadline time.Time    // of the client's connection
	relay    *relay       // the backend's side, if one is connected
	host     netip.Prefix // what the client counts as for its limit
	refused  bool         // there are too many sessions already

	mu       sync.Mutex // guards what follows, and the change of relay
	resting  bool       // waits for the client between two turns, outside a transaction
	draining bool
	aborted  bool
	giveUp   func() // ends a dial, if there was one
}

// run is the whole life of a session. It is the only place that recovers, and
// the only closer of both connections.
func (s *session) run() {
	defer s.server.ended(s)
	var err error
	defer func() {
		if fault := recover(); fault != nil {
			s.server.log().Error("session failed: this is a defect, please report it",
				zap.String("session", s.rec.Session), zap.Any("fault", fault), zap.ByteString("stack", debug.Stack()))
			err = &end{outcome: Internal, say: internalFault, err: fmt.Errorf("internal: %v", fault)}
		}
		s.finish(err)
	}()
	for _, step := range modes[s.listener.Mode] {
		if err = step(s); err != nil {
			return
		}
	}
}

// modes are the order of a session's steps in each Mode. A step that returns an
// error is the last. converse ends without one only where the client asks for
// STARTTLS, which begins a new conversation.
var modes = [...][]func(*session) error{
	Implicit: { // RFC 8314
		(*session).admit,
		(*session).handshake, (*session).connectAndGreet, (*session).converse,
	},
	StartTLS: { // RFC 3207, TLS demanded
		(*session).admit, (*session).cleartext,
		(*session).handshake, (*session).connectSilently, (*session).converse,
	},
	Opportunistic: { // RFC 3207, TLS offered
		(*session).admit, (*session).connectAndGreet, (*session).converse, (*session).disconnect,
		(*session).handshake, (*session).connectSilently, (*session).converse,
	},
}

// newID names a session in our log and, as UNIQUE_ID, in the backend's.
func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// reach says what the session does now.
func (s *session) reach(p Phase) {
	s.rec.Phase = p
	s.phase.Store(int32(slices.Index(Phases[:], p)))
}

// until is d from now, but never beyond the end of the session.
func (s *session) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if t.After(s.limit) {
		return s.limit
	}
	return t
}

func (s *session) setDeadline(t time.Time) {
	s.deadline = t
	s.client.SetDeadline(t)
}

// fill waits for the client's next octets.
func (s *session) fill() error {
	before := s.in.w - s.in.r
	var err error
	if s.sealed {
		err = s.client.fill(&s.in)
	} else {
		err = s.client.wire.fill(&s.in)
	}
	s.rec.BytesIn += int64(s.in.w - s.in.r - before)
	return err
}

// rest waits for the client between two turns, until deadline. A drain ends
// the wait, unless a transaction is open.
func (s *session) rest(deadline time.Time, transaction bool) error {
	s.mu.Lock()
	if s.draining && !transaction {
		s.mu.Unlock()
		return &end{outcome: Shutdown, say: shuttingDown}
	}
	s.resting = !transaction
	s.setDeadline(deadline)
	s.mu.Unlock()

	err := s.fill()

	s.mu.Lock()
	s.resting = false
	drained := s.draining && !transaction
	s.mu.Unlock()
	if err != nil && drained {
		return &end{outcome: Shutdown, say: shuttingDown}
	}
	if err != nil {
		return clientGone(err)
	}
	return nil
}

// wake makes the session end at its next turn boundary, now if it stands at
// one.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	if s.resting {
		s.client.SetReadDeadline(time.Unix(1, 0))
	}
}

// abort cuts the session off: a drain has taken too long.
func (s *session) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted = true
	s.client.Conn.Close()
	if s.giveUp != nil {
		s.giveUp()
	}
	if s.relay != nil {
		s.relay.reset()
	}
}

// send writes to the client. A deadline was set when the stage began.
func (s *session) send(b []byte) error {
	var err error
	if s.sealed {
		_, err = s.client.tls.Write(b)
	} else {
		_, err = s.client.Write(b)
	}
	if err != nil {
		return clientGone(fmt.Errorf("write: %w", err))
	}
	s.rec.BytesOut += int64(len(b))
	return nil
}

// say writes a reply of our own.
func (s *session) say(what sentence) error { return s.send(what.line(s.settings.Hostname)) }

// finish tells the client why, closes both sides and reports.
func (s *session) finish(err error) {
	e, ok := err.(*end)
	if !ok {
		e = &end{outcome: Internal, err: err}
	}
	if e.outcome == ClientTimeout && !time.Now().Before(s.limit) {
		e.err = errTooLong
	}
	if s.relay != nil {
		s.relay.close(e)
	}
	s.farewell(e)
	s.rec.Outcome, s.rec.Violation, s.rec.Err = e.outcome, e.violation, e.err
	s.mu.Lock()
	if s.aborted {
		s.rec.Outcome, s.rec.Violation, s.rec.Err = Shutdown, "", errCutOff
	}
	s.mu.Unlock()
	s.rec.Duration = time.Since(s.rec.Start)
	if s.server.Observer != nil {
		s.server.Observer.SessionEnded(&s.rec)
	}
}

// lingerTime and lingerSize bound how long a client that is still sending is
// listened to, so that the reply it has not read is not lost to a reset.
const (
	lingerTime = time.Second
	lingerSize = 1 << 20
)

// farewell says the last words and closes the client's connection.
func (s *session) farewell(e *end) {
	// Never plain text where TLS is awaited, nor into a broken handshake.
	told := s.sealed || s.client.tls == nil && s.listener.Mode != Implicit
	words := e.quote
	if words == nil {
		words = e.say.line(s.settings.Hostname)
	}
	if told && words != nil {
		s.client.SetDeadline(time.Now().Add(lingerTime))
		if s.send(words) == nil && e.outcome != ClientTimeout && e.outcome != Refused {
			s.linger()
		}
	}
	deadline := time.Now().Add(lingerTime)
	s.client.SetDeadline(deadline)
	if s.sealed {
		s.client.tls.CloseWrite() // sends close_notify, and lets the deadline pass
		s.client.SetDeadline(deadline)
	}
	s.client.release()
	if e.outcome == Completed && !s.in.empty() {
		s.linger() // it talks on behind its QUIT: a reset would take the answer with it
	}
	s.client.Close()
	s.in.drop()
	s.client.cipher.drop()
}

// linger reads on until the client has closed, within bounds.
func (s *session) linger() {
	if s.sealed {
		s.client.tls.CloseWrite() // lets the deadline pass
		s.client.SetDeadline(time.Now().Add(lingerTime))
	}
	s.client.release()
	if half, ok := s.client.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	for size := 0; size < lingerSize; {
		s.client.cipher.drop()
		if s.client.wire.fill(&s.client.cipher) != nil {
			return
		}
		size += len(s.client.cipher.bytes())
	}
}

// printable makes a name that came from outside fit for a log line.
func printable(name string) string {
	const longest = 255 // RFC 1035 section 2.3.4
	if len(name) > longest {
		name = name[:longest]
	}
	b := []byte(name)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
