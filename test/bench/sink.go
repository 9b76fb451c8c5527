package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
)

// A sink is the cheapest mail server that can still tell a whole message from
// a damaged one: it answers the end of a body with its length and checksum.
// It is one process for all peers, and its own cost is not counted.
//
// It trusts its clients, which are ours: commands come one at a time and
// nothing follows a body before its reply.
type sink struct {
	proxied bool // a PROXY v2 header comes first
	bodies  *sync.Pool
}

// bodyBuffer is how much of a body one read may take: large, so that the
// sink's pace is not what a bulk work measures.
const bodyBuffer = 256 << 10

// proxyV2 begins a PROXY header of version 2; after it come four octets, the
// last two the length of the rest.
var proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sinkReplies are by the first four octets of a command. EHLO announces about
// what a Postfix does.
var sinkReplies = map[string]string{
	"EHLO": "250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-ETRN\r\n250-AUTH PLAIN LOGIN\r\n" +
		"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n",
	"MAIL": "250 2.1.0 Ok\r\n",
	"RCPT": "250 2.1.5 Ok\r\n",
	"DATA": "354 End data with <CR><LF>.<CR><LF>\r\n",
	"NOOP": "250 2.0.0 Ok\r\n",
	"RSET": "250 2.0.0 Ok\r\n",
	"QUIT": "221 2.0.0 Bye\r\n",
}

func sinkMain(args []string) error {
	f := flag.NewFlagSet("sink", flag.ContinueOnError)
	plain := f.String("plain", "", "")
	proxied := f.String("proxied", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	pool := &sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
	p, err := net.Listen("tcp", *plain)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	x, err := net.Listen("tcp", *proxied)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	go accept(p, (&sink{bodies: pool}).serve)
	return accept(x, (&sink{bodies: pool, proxied: true}).serve)
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	if err := s.session(c); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "sink:", err)
	}
}

// session answers commands until QUIT or the end of input.
func (s *sink) session(c net.Conn) error {
	if s.proxied {
		if err := skipProxy(c); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(c, "220 sink.test ESMTP\r\n"); err != nil {
		return err
	}
	var line [512]byte
	for n := 0; ; {
		got, err := c.Read(line[n:])
		if err != nil {
			return err
		}
		if n += got; line[n-1] != '\n' {
			if n == len(line) {
				return fmt.Errorf("endless line: %q", line[:32])
			}
			continue
		}
		quit, err := s.answer(c, line[:n])
		if quit || err != nil {
			return err
		}
		n = 0
	}
}

func (s *sink) answer(c net.Conn, line []byte) (quit bool, err error) {
	verb := string(bytes.ToUpper(line[:min(4, len(line))]))
	reply, known := sinkReplies[verb]
	if !known {
		reply = "502 5.5.2 What?\r\n"
	}
	if _, err := io.WriteString(c, reply); err != nil {
		return false, err
	}
	if verb == "DATA" {
		return false, s.data(c)
	}
	return verb == "QUIT", nil
}

// data reads a body and answers it. As nothing follows a body before its
// reply, only the last octets of a read can be its end.
func (s *sink) data(c net.Conn) error {
	buf := s.bodies.Get().(*[bodyBuffer]byte)
	defer s.bodies.Put(buf)
	var last [len(bodyEnd)]byte
	var length int64
	var sum uint32
	for string(last[:]) != bodyEnd {
		n, err := c.Read(buf[:])
		if err != nil {
			return fmt.Errorf("body: %w", err)
		}
		length += int64(n)
		sum = crc32.Update(sum, castagnoli, buf[:n])
		kept := copy(last[:], last[min(n, len(last)):])
		copy(last[kept:], buf[n-min(n, len(last)):n])
	}
	_, err := c.Write(accepted(length, sum))
	return err
}

// accepted is the reply to a body, and what a client expects word for word.
func accepted(length int64, sum uint32) []byte {
	b := strconv.AppendInt([]byte("250 2.0.0 Ok "), length, 10)
	b = strconv.AppendUint(append(b, ' '), uint64(sum), 16)
	return append(b, "\r\n"...)
}

// skipProxy reads exactly a PROXY v2 header.
func skipProxy(c net.Conn) error {
	var head [16]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if !bytes.HasPrefix(head[:], proxyV2) {
		return fmt.Errorf("no PROXY v2 header: %q", head)
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint16(head[14:])))
	return err
}
