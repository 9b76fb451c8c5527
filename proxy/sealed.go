package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"time"
)

// A sealed connection is the client's, once it speaks TLS. It is itself what
// crypto/tls reads from, for two reasons.
//
// Reading many records takes one system call: they are read into a large
// buffer and decrypted from there, and an idle session has none.
//
// crypto/tls keeps its own input buffer as large as the largest read that it
// was ever given, for as long as the connection lives. So it is never given
// octets beyond the end of a record, which halves what that buffer holds.
type sealed struct {
	wire
	tls    *tls.Conn
	cipher buffer // read, not decrypted
	record int    // octets still to come of the record that has begun
	header [recordHeader]byte
	seen   int  // octets of the header that have come
	dry    bool // crypto/tls has said that it needs more
	alert  byte // the description of an alert in clear; 0: none came

	last []byte // what is held for the end, if not nil

	handshakes *turnstile // while the handshake lasts
	inside     bool       // of the turnstile
	deadline   time.Time
}

const recordHeader = 5 // RFC 8446 section 5.1: type, version, length

const (
	alertRecord = 21
	alertLength = 2 // level and description, in clear (RFC 8446 section 6)
)

// errDry tells crypto/tls that nothing is there now. It calls such an error
// temporary and may be asked again.
var errDry error = dry{}

type dry struct{}

func (dry) Error() string   { return "no octets there yet" }
func (dry) Timeout() bool   { return false }
func (dry) Temporary() bool { return true }

// Read is for crypto/tls. During the handshake it waits; afterwards it only
// gives out what fill has read.
func (s *sealed) Read(p []byte) (int, error) {
	if s.cipher.empty() {
		if s.handshakes == nil {
			return 0, errDry
		}
		if err := s.waitInHandshake(); err != nil {
			return 0, err
		}
	}
	b := s.cipher.bytes()
	n := copy(p, s.upToRecordEnd(b[:min(len(p), len(b))]))
	s.cipher.took(n)
	return n, nil
}

// hold keeps what is written from here on for release. The answer to QUIT, the
// close_notify behind it and the FIN are one packet then, not three.
func (s *sealed) hold() {
	if s.last == nil {
		s.last = make([]byte, 0, 256)
	}
}

// Write is for crypto/tls, and for what is said in clear.
func (s *sealed) Write(p []byte) (int, error) {
	if s.last == nil {
		return s.Conn.Write(p)
	}
	s.last = append(s.last, p...)
	return len(p), nil
}

// release writes what is held. The connection must be closed behind it.
func (s *sealed) release() {
	if len(s.last) > 0 {
		s.writeLast(s.last)
	}
	s.last = nil
}

// upToRecordEnd cuts b where the record ends that is being given out. Nothing
// is checked here: what is no TLS is for crypto/tls to say.
func (s *sealed) upToRecordEnd(b []byte) []byte {
	n := 0
	if s.record == 0 {
		n = copy(s.header[s.seen:], b)
		if s.seen += n; s.seen < recordHeader {
			return b[:n]
		}
		s.seen = 0
		s.record = int(s.header[3])<<8 | int(s.header[4])
	}
	body := min(s.record, len(b)-n)
	if s.header[0] == alertRecord && s.header[3] == 0 && s.header[4] == alertLength && s.record == body && body > 0 {
		s.alert = b[n+body-1]
	}
	s.record -= body
	return b[:n+body]
}

// fill adds at least one octet of decrypted input to b. io.EOF is a close that
// the client has announced, io.ErrUnexpectedEOF one that it has not.
func (s *sealed) fill(b *buffer) error {
	for {
		if !s.dry || !s.cipher.empty() {
			if n, err := s.decrypt(b); n > 0 || err != nil {
				return err
			}
		}
		if err := s.wire.fill(&s.cipher); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
}

// decrypt adds to b what can be had without waiting.
func (s *sealed) decrypt(b *buffer) (total int, err error) {
	for {
		room := b.room()
		if len(room) == 0 {
			s.dry = false
			return total, nil
		}
		n, err := s.tls.Read(room)
		b.added(n)
		total += n
		switch {
		case errors.Is(err, errDry):
			s.dry = true
			b.giveBack()
			return total, nil
		case err == nil && n < len(room) && s.cipher.empty():
			s.dry = true // to ask again would only cost: it has no octets beyond a record
			return total, nil
		case err != nil && total > 0:
			s.dry = false // it will be said again, without waiting
			return total, nil
		case err != nil:
			b.giveBack()
			return 0, err
		}
	}
}
