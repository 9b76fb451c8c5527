package mta

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pires/go-proxyproto"
)

// Proxy says which PROXY header must come first.
type Proxy string

// What a server can expect. One that expects none takes a v1 line for an
// unknown command and answers 500 behind its greeting, unasked.
const (
	NoProxy Proxy = ""
	V1      Proxy = "v1"
	V2      Proxy = "v2"
	Either  Proxy = "v1 or v2"
)

// BadHeader says what becomes of a client whose header is missing, late, split
// (see PeekOnce) or bad.
type BadHeader string

// The three ways of real servers.
const (
	Hangup  BadHeader = ""          // closed without a word: OpenSMTPD, Dovecot
	Say421  BadHeader = "421"       // 421 and closed: Postfix
	Only503 BadHeader = "exim, 503" // greeted with 220, then 503 to all but QUIT: Exim
)

// A Header is a PROXY header as it came.
type Header struct {
	*proxyproto.Header
	Raw      []byte
	OneRead  bool // one read returned all of it
	Segments int  // TCP segments that had come when it was whole; 0 on unix sockets
}

var errBadHeader = errors.New("PROXY header")

// header reads the PROXY header, if one is due. An error that is errBadHeader
// is the client's mistake, any other the connection's.
func (s *session) header() error {
	if s.server.config.Proxy == NoProxy {
		return nil
	}
	s.conn.SetReadDeadline(time.Now().Add(s.server.config.HeaderTimeout))
	defer s.conn.SetReadDeadline(time.Time{})
	if _, err := s.in.Peek(1); err != nil {
		return badHeader(err)
	}
	first, _ := s.in.Peek(s.in.Buffered())
	first = bytes.Clone(first)
	if s.server.config.PeekOnce {
		if _, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(first))); err != nil {
			return fmt.Errorf("%w: in the first read of %d octets: %w", errBadHeader, len(first), err)
		}
	}
	parsed, err := proxyproto.Read(s.in)
	if err != nil {
		return badHeader(err)
	}
	length := len(s.record.In()) - s.in.Buffered()
	header := &Header{
		Header: parsed, Raw: s.record.In()[:length],
		OneRead: length <= len(first), Segments: dataSegments(s.conn),
	}
	s.server.update(func() { s.record.Header = header })
	if s.server.config.SwallowBehind && length < len(first) {
		s.in.Discard(len(first) - length)
	}
	return s.expected(parsed.Version)
}

func (s *session) expected(version byte) error {
	want := s.server.config.Proxy
	if got := Proxy(fmt.Sprintf("v%d", version)); got != want && want != Either {
		return fmt.Errorf("%w: %s came where %s is due", errBadHeader, got, want)
	}
	return nil
}

// badHeader marks what is the client's mistake. A client that goes is not one.
func badHeader(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && !timeout.Timeout() || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", errBadHeader, err)
}

// refuseHeader does what the server does without a good header.
func (s *session) refuseHeader(err error) error {
	switch s.server.config.BadHeader {
	case Say421:
		s.reply("421 4.3.0 " + s.server.config.Hostname + " Server local error")
		s.flush()
	case Only503:
		s.refused = "503 Command refused, required Proxy negotiation failed"
		return nil
	}
	s.ended(ServerEnded, err)
	return closeFIN(s.conn)
}
