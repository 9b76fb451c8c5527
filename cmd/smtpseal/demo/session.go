package demo

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// A session is one connection's state: what of a message is there already.
type session struct {
	mta     *MTA
	conn    net.Conn
	in      *bufio.Reader
	message Message
	over    bool
}

// verbs are the commands that the server knows.
var verbs = map[string]func(*session, string){
	"EHLO": (*session).EHLO,
	"HELO": (*session).HELO,
	"MAIL": (*session).MAIL,
	"RCPT": (*session).RCPT,
	"DATA": (*session).DATA,
	"RSET": (*session).RSET,
	"NOOP": (*session).NOOP,
	"VRFY": (*session).VRFY,
	"QUIT": (*session).QUIT,
}

// turn reads one command and answers it.
func (s *session) turn() {
	s.conn.SetDeadline(time.Now().Add(commandWait))
	line, err := s.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		s.reply("500 5.5.2 line too long")
	}
	if err != nil {
		s.over = true
		return
	}
	verb, rest, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	if run, ok := verbs[strings.ToUpper(verb)]; ok {
		run(s, strings.TrimSpace(rest))
		return
	}
	s.reply("502 5.5.1 command not known here")
}

// reply writes one or more lines; a write that fails ends the session.
func (s *session) reply(format string, args ...any) {
	if _, err := fmt.Fprintf(s.conn, format+"\r\n", args...); err != nil {
		s.over = true
	}
}

// forget drops a message that was begun; who the client is stays.
func (s *session) forget() {
	s.message = Message{Header: s.message.Header, Helo: s.message.Helo}
}

func (s *session) EHLO(name string) {
	s.message.Helo = name
	s.forget()
	s.reply("250-%s\r\n250-PIPELINING\r\n250-SIZE %d\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SMTPUTF8",
		s.mta.Name, maxMessage)
}

func (s *session) HELO(name string) {
	s.message.Helo = name
	s.forget()
	s.reply("250 %s", s.mta.Name)
}

func (s *session) MAIL(args string) {
	from, ok := path(args, "FROM:")
	switch {
	case s.message.Helo == "":
		s.reply("503 5.5.1 EHLO first")
	case s.message.From != "":
		s.reply("503 5.5.1 one sender is enough")
	case !ok:
		s.reply("501 5.5.4 MAIL FROM:<address>")
	default:
		s.message.From = from
		s.reply("250 2.1.0 ok")
	}
}

func (s *session) RCPT(args string) {
	to, ok := path(args, "TO:")
	switch {
	case s.message.From == "":
		s.reply("503 5.5.1 MAIL first")
	case !ok || to == "<>":
		s.reply("501 5.5.4 RCPT TO:<address>")
	case len(s.message.To) >= maxRecipients:
		s.reply("452 4.5.3 too many recipients")
	default:
		s.message.To = append(s.message.To, to)
		s.reply("250 2.1.5 ok")
	}
}

// DATA takes a message. Its end is CRLF, a dot and CRLF and nothing else (RFC
// 5321 section 4.1.1.4): a lone dot between other line ends is text.
func (s *session) DATA(string) {
	if len(s.message.To) == 0 {
		s.reply("503 5.5.1 RCPT first")
		return
	}
	s.reply("354 end with CRLF.CRLF")
	text, err := readText(s.in)
	switch {
	case err == errTooLarge:
		s.reply("552 5.3.4 message too large")
	case err != nil:
		s.over = true // gone in the middle: never deliver a part
	default:
		s.message.Text = text
		s.mta.Deliver(s.message)
		s.reply("250 2.0.0 %d bytes taken", len(text))
	}
	s.forget()
}

func (s *session) RSET(string) { s.forget(); s.reply("250 2.0.0 ok") }
func (s *session) NOOP(string) { s.reply("250 2.0.0 ok") }
func (s *session) VRFY(string) { s.reply("252 2.5.0 send some mail, and see") }
func (s *session) QUIT(string) { s.reply("221 2.0.0 bye"); s.over = true }

// path takes the address of MAIL FROM: or RCPT TO:, its angle brackets kept so
// that the empty sender is not empty. Parameters behind it are ignored.
func path(args, keyword string) (string, bool) {
	if len(args) < len(keyword) || !strings.EqualFold(args[:len(keyword)], keyword) {
		return "", false
	}
	fields := strings.Fields(args[len(keyword):])
	if len(fields) == 0 || slices.Contains([]byte(fields[0]), 0) {
		return "", false
	}
	address := fields[0]
	return address, strings.HasPrefix(address, "<") && strings.HasSuffix(address, ">")
}
