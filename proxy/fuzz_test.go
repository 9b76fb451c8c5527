package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dictionary are the words that a fuzzer would be long in finding: an octet of
// 0x80 and above in its input stands for one of them.
var dictionary = []string{
	"\r\n", "\n", "\r", " ", ".", "\r\n.\r\n", "\n.\n", "\r\n.", "\r\n..", "EHLO c\r\n", "HELO c\r\n", "MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n",
	"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "BDAT 5\r\n", "BDAT 12 LAST\r\n", "BDAT 0 LAST\r\n", "BDAT 4294967297\r\n", "BDAT ", "LAST",
	"RSET\r\n", "NOOP\r\n", "QUIT\r\n", "AUTH LOGIN\r\n", "*\r\n", "c2VjcmV0\r\n", "STARTTLS", "XCLIENT ADDR=::1", "XFORWARD", "X-ANONYMOUSTLS", "XEXCH50", "TURN",
	"ATRN", "LHLO", "XPROXYFROM x", "X-EXPS", "VRFY x\r\n", "RCPT TO:<x@x>\r\n", "noop\n", "data\n", "\x00", "\t", "\x0b", "PROXY ", "GET / ", "\x16", "text",
}

func spell(in []byte) string {
	var b strings.Builder
	for _, c := range in {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			b.WriteString(dictionary[int(c-0x80)%len(dictionary)])
		}
	}
	return b.String()
}

// The bits of a fuzzed session's settings.
const (
	inClear = 1 << iota
	withChunking
	withHidden
)

// cut gives f the pieces of stream, whose lengths are in sizes, over and over.
func cut(stream string, sizes []byte, f func(piece string) bool) {
	for i := 0; stream != ""; i++ {
		n := len(stream)
		if len(sizes) > 0 {
			n = min(n, int(sizes[i%len(sizes)])+1)
		}
		if !f(stream[:n]) {
			return
		}
		stream = stream[n:]
	}
}

// FuzzRelay plays a stream of a client's, cut anywhere, against a strict MTA:
// nothing denied arrives there, bodies arrive as they were sent, the client
// hears exactly what the reference says, and the session ends with the client.
func FuzzRelay(f *testing.F) {
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n..text\r\n.\r\nQUIT\r\n"), []byte{}, byte(0))
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b>\r\nBDAT 9\r\nXCLIENT\r\nBDAT 2 LAST\r\n.\nxclient a\nNOOP\r\n"), []byte{0}, byte(withChunking|inClear))
	f.Add([]byte("AUTH LOGIN\r\nXCLIENT\r\nSTARTTLS\nSTARTTLS\r\nX-EXPS\r\nDATA\r\n.\r\n"), []byte{1, 6}, byte(withHidden))
	f.Add([]byte("MAIL\r\nRCPT\r\nDATA\r\nhello\n.\r\nXCLIENT\r\n"), []byte{40, 3}, byte(inClear))
	f.Add([]byte("BDAT 8 LAST\r\nXCLIENT\nNOOP\r\nSTARTTLS x\r\nQUIT\r\n"), []byte{12}, byte(inClear|withChunking|withHidden))
	f.Add([]byte("EHLO c\r\nHELO c\r\nBDAT 6\r\nNOOP\r\nRSET\r\n"), []byte{}, byte(withChunking))
	for i := range dictionary {
		f.Add([]byte{0x80 + 9, 0x80 + 14, 0x80 + byte(i), 0x80, 0x80 + byte((i+7)%len(dictionary)), 0x80, 0x80 + 5, 0x80 + 22}, []byte{byte(i)}, byte(i))
	}
	testPair()
	f.Fuzz(func(t *testing.T, in, sizes []byte, settings byte) {
		stream := spell(in)
		if len(stream) > 4096 {
			return // the bound of a line has its own dialogues
		}
		if stream != "" && stream[0] <= ' ' {
			stream = "NOOP\r\n" + stream // what is alien depends on how much of it is there
		}
		synctest.Test(t, func(t *testing.T) { playRelay(t, stream, sizes, settings) })
	})
}

func playRelay(t *testing.T, stream string, sizes []byte, settings byte) {
	clear := settings&inClear != 0
	want := reference{mta: &strictMTA{chunking: settings&withChunking != 0}, clear: clear, hidden: settings&withHidden != 0}
	want.run(stream)

	mta := &strictMTA{chunking: want.mta.chunking}
	mode := Implicit
	if clear {
		mode = Opportunistic
	}
	s := newStage(t, mode, func(_ *stage, c net.Conn) { mta.serve(t, c, int(settings>>3), &want) })
	defer s.close()
	if want.hidden {
		s.settings.Listeners[0].Backend.Hide = []string{"X-EXPS", "XPROXY*"}
	}
	c := s.connect()
	if !clear {
		c = s.seal(c)
	}
	var said strings.Builder
	s.playing.Go(func() { io.Copy(&said, c) })
	cut(stream, sizes, func(piece string) bool {
		_, err := io.WriteString(c, piece)
		synctest.Wait() // until everybody waits for more
		return err == nil && !want.upgraded
	})
	s.leave(c, stream)
	if want.upgraded {
		return
	}
	if said.String() != want.said {
		t.Errorf("%q cut by %v, settings %b:\nclient hears %q\n        want %q", stream, sizes, settings, said.String(), want.said)
	}
	if got, want := strings.Join(mta.heard, "|"), strings.Join(want.mta.heard, "|"); got != want {
		t.Errorf("%q cut by %v, settings %b:\nbackend hears %q\n         want %q", stream, sizes, settings, got, want)
	}
}

// leave ends a client that has said stream; its session must end soon, and well.
func (s *stage) leave(c net.Conn, stream string) Record {
	synctest.Wait()
	left := time.Now()
	c.Close()
	r := <-s.records
	s.playing.Wait()
	if r.Outcome == Internal || time.Since(left) > 10*time.Second {
		s.t.Errorf("%q: %s %v after the client had gone: %v", stream, r.Outcome, time.Since(left), r.Err)
	}
	return r
}

// FuzzCleartext plays a stream of a client's before TLS: nothing of it reaches
// a backend, what is answered is bounded, and the session ends.
func FuzzCleartext(f *testing.F) {
	f.Add([]byte("EHLO c\r\nAUTH PLAIN x\r\nMAIL FROM:<a@b>\r\nQUIT\r\n"), []byte{})
	f.Add([]byte("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<a@b>\r\n"), []byte{})
	f.Add([]byte("STARTTLS\r\nEHLO evil\r\nMAIL FROM:<a@b>\r\n"), []byte{9, 3})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte{0})
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"), []byte{1})
	for i := range dictionary {
		f.Add([]byte{0x80 + byte(i), 0x80, 0x80 + byte((i+5)%len(dictionary)), 0x80, 0x80 + 27, 0x80}, []byte{byte(i)})
	}
	testPair()
	f.Fuzz(func(t *testing.T, in, sizes []byte) {
		stream := spell(in)
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, StartTLS, func(_ *stage, c net.Conn) {
				b, _ := io.ReadAll(c)
				t.Errorf("%q brought a connection to the backend, which heard %q", stream, b)
			})
			defer s.close()
			c := s.connect()
			var said strings.Builder
			s.playing.Go(func() { io.Copy(&said, c) })
			cut(stream, sizes, func(piece string) bool {
				_, err := io.WriteString(c, piece)
				return err == nil
			})
			r := s.leave(c, stream)
			replies := strings.Count(said.String(), "\r\n")
			if most := 1 + 3*min(maxCleartext, strings.Count(stream, "\n")) + 1; replies > most {
				t.Errorf("%q: %d lines of reply, want at most %d", stream, replies, most)
			}
			if r.Messages > 0 || r.Backend != "" || r.TLS {
				t.Errorf("%q: %+v", stream, r)
			}
		})
	})
}
