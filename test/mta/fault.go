package mta

import (
	"net"
	"strings"
	"time"
)

// A Fault is one departure from good behaviour. The first one of Config.Faults
// that fits a point is carried out there.
//
//	{At: "MAIL", Then: mta.Close}                      dies instead of answering MAIL
//	{After: "RCPT", Say: "421 4.3.2 bye\r\n", Then: mta.Close}
//	{At: mta.Body, Octets: 4096, Then: mta.Stall}      stops reading in mid-body
//	{At: "EHLO", Say: "250-mta.exa", Then: mta.Close}  half a reply
//	{At: "NOOP", Twice: true}                          two replies for one command
//	{At: mta.Greeting, EachOctet: time.Millisecond}    octet by octet
type Fault struct {
	At    Point // in place of the reply at this point …
	After Point // … or right behind it. Exactly one of the two is given

	Octets int64 // for Body: once so many octets of it have been read
	Conn   int   // only on the nth connection, from 1; 0: on every one
	Nth    int   // only the nth time on a connection, from 1; 0: every time

	Pause     time.Duration // first wait, with all earlier replies out
	Say       string        // what is said in place of the reply, or behind it; as it stands
	Twice     bool          // … two times
	EachOctet time.Duration // … with so long between octets
	Then      Then
}

// A Point is a place in a session: a verb in capitals, or one of the constants.
type Point string

// The points that are no verbs.
const (
	Connect   Point = "connect"     // before the PROXY header is read
	Greeting  Point = "greeting"    // where the greeting is due
	AuthStep  Point = "auth step"   // where the answer to an AUTH line is due
	Body      Point = "body"        // within a body, see Octets
	EndOfData Point = "end of data" // where the answer to a whole DATA body is due
)

// Then is what follows a fault.
type Then string

// What can follow. If Say is empty, all but GoOn leave the reply out.
const (
	GoOn      Then = ""
	Stall     Then = "stall"      // says and reads nothing more until the client has gone
	Close     Then = "close"      // FIN, as of a process that ends: what comes later is answered by RST
	HalfClose Then = "half close" // FIN, but goes on reading
	Reset     Then = "reset"      // RST
)

// fault finds what is to go wrong at a point, and counts that it was reached.
func (s *session) fault(at, after Point) *Fault {
	key := "at " + string(at)
	if at == "" {
		key = "after " + string(after)
	}
	s.reached[key]++
	for i := range s.server.config.Faults {
		f := &s.server.config.Faults[i]
		if f.At == at && f.After == after &&
			(f.Conn == 0 || f.Conn == s.record.Number) && (f.Nth == 0 || f.Nth == s.reached[key]) {
			return f
		}
	}
	return nil
}

// answer gives the reply that is due at a point, or what a fault makes of it.
// It tells whether the client was told yes (2xx or 3xx) with a whole line. usual
// has no CRLF at its end.
func (s *session) answer(point Point, usual string) (yes bool, err error) {
	return s.answerOnce(point, usual, func() {})
}

// answerOnce is answer for a yes with consequences: onYes runs before the
// client can have read it, so that a test that has read it finds them.
func (s *session) answerOnce(point Point, usual string, onYes func()) (yes bool, err error) {
	f := s.fault(point, "")
	text := f.text(usual + "\r\n")
	yes = strings.ContainsAny(text[:min(1, len(text))], "23") && strings.HasSuffix(text, "\n")
	if yes {
		onYes()
	}
	if f != nil {
		err = s.perform(f, text)
	} else {
		err = s.reply(usual)
	}
	if err != nil {
		return yes, err
	}
	if f := s.fault("", point); f != nil {
		err = s.perform(f, f.text(""))
	}
	return yes, err
}

// text is what is said instead of usual.
func (f *Fault) text(usual string) string {
	switch {
	case f == nil:
		return usual
	case f.Say == "" && f.Then != GoOn:
		return ""
	case f.Say != "":
		usual = f.Say
	}
	if f.Twice {
		return usual + usual
	}
	return usual
}

// perform carries out a fault, where text is to be said.
func (s *session) perform(f *Fault, text string) error {
	if err := s.flush(); err != nil {
		return err
	}
	if !s.server.sleep(f.Pause) {
		return net.ErrClosed
	}
	if err := s.say(text, f.EachOctet); err != nil {
		return err
	}
	return s.then(f.Then)
}

// say writes text at once, or octet by octet.
func (s *session) say(text string, each time.Duration) error {
	if each == 0 {
		return s.write([]byte(text))
	}
	for i := range len(text) {
		if err := s.write([]byte(text[i : i+1])); err != nil {
			return err
		}
		if !s.server.sleep(each) {
			return net.ErrClosed
		}
	}
	return nil
}

// then ends the session as told, or lets it go on. The end is on record
// before the client can see it.
func (s *session) then(what Then) error {
	switch what {
	case Stall:
		return waitGone(s.conn)
	case Close:
		s.ended(ServerEnded, nil)
		return closeFIN(s.conn)
	case Reset:
		s.ended(ServerEnded, nil)
		return closeRST(s.conn)
	case HalfClose:
		if err := s.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			return err
		}
		for buffer := make([]byte, 4096); ; {
			if _, err := s.Read(buffer); err != nil {
				return err
			}
		}
	}
	return nil
}
