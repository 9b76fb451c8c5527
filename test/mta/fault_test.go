package mta

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/talk"
)

func TestFaults(t *testing.T) {
	one := func(f Fault) Config { return Config{Faults: []Fault{f}} }
	long := strings.Repeat("x", 998) + "\r\n"
	for _, c := range []struct {
		name   string
		config Config
		script string
		end    End
	}{
		{"FIN before the greeting", one(Fault{At: Connect, Then: Close}), "< FIN", ServerEnded},
		{"RST before the greeting", one(Fault{At: Greeting, Pause: talk.Quiet, Then: Reset}), "< RST", ServerEnded},
		{"FIN behind the greeting", one(Fault{After: Greeting, Then: Close}), "< 220\n< FIN", ServerEnded},
		{"RST at EHLO", one(Fault{At: "EHLO", Then: Reset}), "< 220\n> EHLO x\n< RST", ServerEnded},
		{"FIN behind HELO", one(Fault{After: "HELO", Then: Close}), hello + "< FIN", ServerEnded},
		{"FIN at MAIL", one(Fault{At: "MAIL", Then: Close}), hello + "> MAIL FROM:<>\n< FIN", ServerEnded},
		{"FIN at the second RCPT", one(Fault{At: "RCPT", Nth: 2, Then: Close}), toRcpt + "> RCPT TO:<x@y>\n< FIN", ServerEnded},
		{"RST before 354", one(Fault{At: "DATA", Then: Reset}), toRcpt + "> DATA\n< RST", ServerEnded},
		{"RST in mid-body", one(Fault{At: Body, Octets: 3, Then: Reset}), toRcpt + "> DATA\n< 354\n>> abcde\n< RST", ServerEnded},
		{"FIN in mid-body", one(Fault{At: Body, Octets: 5, Then: Close}), toRcpt + "> DATA\n< 354\n>> abcde\n< FIN", ServerEnded},
		{"RST in a chunk", one(Fault{At: Body, Octets: 3, Then: Reset}), toRcpt + "> BDAT 10 LAST\n>> abcd\n< RST", ServerEnded},
		{"FIN behind the end of data", one(Fault{At: EndOfData, Then: Close}), toRcpt + "> DATA\n< 354\n> x\n> .\n< FIN", ServerEnded},
		{"half a reply", one(Fault{At: "NOOP", Say: "250 2.0", Then: Close}), "< 220\n> NOOP\n< 250 2.0FIN", ServerEnded},
		{"two replies for one command", one(Fault{At: "NOOP", Twice: true}), "< 220\n> NOOP\n< 250\n< 250\n> QUIT\n< 221", Quit},
		{"a reply unasked", one(Fault{After: "HELO", Say: "421 4.3.2 bye\r\n", Then: Close}), hello + "< 421\n< FIN", ServerEnded},
		{"a reply unasked, later", one(Fault{After: "NOOP", Pause: 10 * talk.Quiet, Say: "250 2.0.0 really\r\n"}), "< 220\n> NOOP\n< 250 2.0.0 Ok\n< nothing\n< 250 2.0.0 really\n> QUIT\n< 221", Quit},
		{"a reply that is no SMTP", one(Fault{At: "NOOP", Say: "* BAD what\r\n"}), "< 220\n> NOOP\n< * BAD\n> QUIT\n< 221", Quit},
		{"MAIL refused", one(Fault{At: "MAIL", Say: "451 4.3.0 later\r\n"}), hello + "> MAIL FROM:<>\n< 451\n> RCPT TO:<a@b>\n< 503", ""},
		{"DATA refused", one(Fault{At: "DATA", Say: "451 4.3.0 later\r\n"}), toRcpt + "> DATA\n< 451\n> NOOP\n< 250", ""},
		{"the body refused", one(Fault{At: EndOfData, Say: "554 5.6.0 no\r\n"}), toRcpt + "> DATA\n< 354\n> .\n< 554\n> MAIL FROM:<>\n< 250", ""},
		{"early 552", one(Fault{At: Body, Octets: 10, Say: "552 5.3.4 enough\r\n"}), toRcpt + "> DATA\n< 354\n>> 0123456789\n< 552\n> more\n> .\n< nothing\n> NOOP\n< 250", ""},
		{"early 552 and FIN", one(Fault{At: Body, Octets: 10, Say: "552 5.3.4 enough\r\n", Then: Close}), toRcpt + "> DATA\n< 354\n>> 0123456789\n< 552\n< FIN", ServerEnded},
		{"421 greeting", Config{Greeting: "421 4.3.2 busy\r\n"}, "< 421\n< FIN", ServerEnded},
		{"554 greeting", Config{Greeting: "554 5.3.2 not you\r\n"}, "< 554\n> EHLO x\n< 503\n> QUIT\n< 221", Quit},
		{"greeting of many lines", Config{Greeting: "220-one\r\n220-two\r\n220 three\r\n"}, "< 220-one\n< 220-two\n< 220 three\n> QUIT\n< 221", Quit},
		{"octet by octet", one(Fault{At: Greeting, EachOctet: time.Microsecond}), hello, ""},
		{"only on the second connection", one(Fault{At: Greeting, Conn: 2, Then: Close}), hello, ""},
		{"stall before the greeting", one(Fault{At: Greeting, Then: Stall}), "< nothing", ClientClosed},
		{"stall at MAIL", one(Fault{At: "MAIL", Then: Stall}), hello + "> MAIL FROM:<>\n> NOOP\n< nothing", ClientClosed},
		{"stall behind half a reply", one(Fault{At: "NOOP", Say: "250-x\r\n2", Then: Stall}), "< 220\n> NOOP\n< 250-x\n< 2nothing", ClientClosed},
		{"stall in mid-body", one(Fault{At: Body, Octets: 1, Then: Stall}), toRcpt + "> DATA\n< 354\n> abc\n> .\n< nothing", ClientClosed},
		{"FIN, but goes on reading", one(Fault{At: "MAIL", Then: HalfClose}), hello + "> MAIL FROM:<>\n< FIN\n> NOOP\n> NOOP", ClientClosed},
		{"a pause in mid-body", one(Fault{At: Body, Octets: 1, Pause: time.Microsecond}), toRcpt + "> DATA\n< 354\n> " + long + "\n> .\n< 250", ""},
		{"tarpit", Config{Tarpit: 10 * talk.Quiet}, "< 220\n> NOPE\n< nothing\n< 500\n> NOOP\n< 250", ""},
		{"AUTH dies behind its first step", one(Fault{After: "AUTH", Then: Reset}), hello + "> AUTH LOGIN\n< 334\n< RST", ServerEnded},
		{"AUTH refused late", one(Fault{At: AuthStep, Say: "454 4.7.0 later\r\n"}), hello + "> AUTH LOGIN\n< 334\n> eA==\n< 454\n> NOOP\n< 250", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := Start(t, c.config)
			client, conn := dial(t, srv)
			client.Play(c.script)
			if c.end == "" {
				if got := srv.Connections()[0].End; got != Open {
					t.Errorf("ended by %q", got)
				}
				return
			}
			conn.Close()
			if got := srv.WaitEnd(t, 1); got.End != c.end {
				t.Errorf("ended by %q, want %q\n%s", got.End, c.end, got.String())
			}
		})
	}
}

func TestWhatComesOfABodyCutShort(t *testing.T) {
	srv := Start(t, Config{})
	c, conn := dial(t, srv)
	c.Play(toRcpt + "> DATA\n< 354\n>> abc\\r\\n..def\\r\\n.")
	srv.WaitConnection(t, 1, func(c *Connection) bool { return len(c.Unfinished) == 11 })
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	got := srv.WaitEnd(t, 1)
	if got.End != ClientReset || !got.InBody || string(got.Unfinished) != "abc\r\n.def\r\n" || len(srv.Messages()) != 0 {
		t.Errorf("end %q, in body %v, unfinished %q", got.End, got.InBody, got.Unfinished)
	}
}

// Stall in mid-body must make the client's writes block, so that its own
// deadline is put to the test.
func TestStalledServerStopsReading(t *testing.T) {
	srv := Start(t, Config{Faults: []Fault{{At: Body, Octets: 10, Then: Stall}}})
	c, conn := dial(t, srv)
	c.Play(toRcpt + "> DATA\n< 354")
	conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := io.Copy(conn, bytes.NewReader(make([]byte, 64<<20)))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wrote %d octets: %v", n, err)
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
	if got := srv.WaitEnd(t, 1); got.End != ClientReset {
		t.Errorf("a stalled server took RST for %q", got.End)
	}
}

func TestRefusingAndDeaf(t *testing.T) {
	if _, err := net.DialTimeout("tcp", Refusing(t), 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refusing address: %v", err)
	}
	var timeout net.Error
	if conn, err := net.DialTimeout("tcp", Deaf(t), 100*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("deaf address: %v, %v", conn, err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	srv, err := Listen(Config{Faults: []Fault{{At: "NOOP", Then: Stall}, {At: "RSET", Pause: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"", hello, "< 220\n> NOOP", "< 220\n> RSET", toRcpt + "> DATA\n< 354"} {
		play(t, srv, script)
	}
	srv.Close()
	// A goroutine that was waited for may still be on its last instruction.
	for end := time.Now().Add(time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		buffer := make([]byte, 1<<16)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, buffer[:runtime.Stack(buffer, true)])
	}
}
