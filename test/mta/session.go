package mta

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// A session serves one connection, in one goroutine.
type session struct {
	server *Server
	conn   net.Conn
	record *Connection
	in     *bufio.Reader // over Read
	out    []byte        // replies that wait for the client to have nothing more to say

	reached map[string]int // how often each point was, see fault
	refused string         // what all commands but QUIT get, if not empty
	mail    *Message       // the transaction; nil: none
	inAuth  bool           // the AUTH command itself has been answered
}

// bufferSize bounds a command line.
const bufferSize = 64 << 10

var errQuit = errors.New("quit")

// serve leaves closing conn to its caller.
func serve(server *Server, conn net.Conn, record *Connection) {
	s := &session{server: server, conn: conn, record: record, reached: map[string]int{}}
	s.in = bufio.NewReaderSize(s, bufferSize)
	s.endedBy(s.run())
}

// run is the whole life of a session.
func (s *session) run() error {
	if f := s.fault(Connect, ""); f != nil {
		if err := s.perform(f, f.text("")); err != nil {
			return err
		}
	}
	if err := s.header(); errors.Is(err, errBadHeader) {
		if err := s.refuseHeader(err); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := s.greet(); err != nil {
		return err
	}
	for {
		if err := s.turn(); err != nil {
			return err
		}
	}
}

// greet first notes what the client said before it was its turn.
func (s *session) greet() error {
	if !s.server.sleep(s.server.config.GreetDelay) {
		return net.ErrClosed
	}
	early := s.in.Buffered() + waiting(s.conn)
	s.server.update(func() { s.record.Early = early })
	greeting := strings.TrimSuffix(s.server.config.Greeting, "\r\n")
	yes, err := s.answer(Greeting, greeting)
	if err != nil {
		return err
	}
	if !yes {
		s.refused = "503 5.5.1 Only QUIT is left"
	}
	if strings.HasPrefix(greeting, "421") {
		return s.goodbye()
	}
	return s.flush()
}

// turn reads one command and answers it.
func (s *session) turn() error {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	command := strings.TrimRight(string(line), "\r\n")
	s.server.update(func() { s.record.Commands = append(s.record.Commands, command) })
	verb, argument, _ := strings.Cut(command, " ")
	verb = strings.ToUpper(verb)
	if s.refused != "" && verb != "QUIT" {
		_, err = s.answer(Point(verb), s.refused)
		return err
	}
	if do, ok := verbs[verb]; ok {
		return do(s, argument)
	}
	_, err = s.answer(Point(verb), "500 5.5.2 Error: command not recognized")
	return err
}

// goodbye ends a session from our side, with nothing owed.
func (s *session) goodbye() error {
	if err := s.flush(); err != nil {
		return err
	}
	s.ended(ServerEnded, nil)
	return closeFIN(s.conn)
}

// Read is what s.in reads from. Replies are held back as long as there is
// something to read, as real servers do for clients that pipeline.
func (s *session) Read(p []byte) (int, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(p)
	if n > 0 {
		s.server.update(func() { s.record.spoke(Client, p[:n]) })
	}
	return n, err
}

// reply queues one reply; text has no CRLF at its end.
func (s *session) reply(text string) error {
	if tarpit := s.server.config.Tarpit; tarpit > 0 && strings.ContainsAny(text[:1], "45") {
		if !s.server.sleep(tarpit) {
			return net.ErrClosed
		}
	}
	s.out = append(s.out, text...)
	s.out = append(s.out, "\r\n"...)
	return nil
}

func (s *session) flush() error {
	out := s.out
	s.out = nil
	return s.write(out)
}

// write puts the octets on record before the client can react to them.
func (s *session) write(octets []byte) error {
	if len(octets) == 0 {
		return nil
	}
	s.server.update(func() { s.record.spoke(Ours, octets) })
	_, err := s.conn.Write(octets)
	return err
}

// endedBy turns what stopped run into how the connection ended.
func (s *session) endedBy(err error) {
	switch {
	case errors.Is(err, errQuit):
		s.ended(Quit, nil)
	case errors.Is(err, io.EOF):
		s.ended(ClientClosed, err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		s.ended(ClientReset, err)
	default:
		s.ended(ServerEnded, err)
	}
}

// ended is called by whoever knows first; the later ones know less.
func (s *session) ended(end End, err error) {
	s.server.update(func() {
		if s.record.End == Open {
			s.record.End, s.record.Error = end, err
		}
	})
}
