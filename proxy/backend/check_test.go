package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// play is a server that says so many things, each once it has heard a line, the
// first at once; then it closes.
func play(words ...string) manner {
	return func(_ net.Conn, say func(string, ...any), hear func() string) {
		for _, w := range words {
			say("%s", w)
			if hear() == "" {
				return
			}
		}
	}
}

// Whatever a server does, the error says at which step what came, and the hint
// what to do; and who has been greeted says QUIT, or the server logs a warning.
func TestCheck(t *testing.T) {
	const greeted, known, bye = "220 mta ESMTP\r\n", "250 mta\r\n", "221 Bye\r\n"
	late := func(words string) manner {
		return func(_ net.Conn, say func(string, ...any), hear func() string) {
			time.Sleep(3 * time.Second)
			says(words)(nil, say, hear)
		}
	}
	for _, c := range []struct {
		name string
		manner
		proxy     Version
		err, hint string // parts; no error: the server is well
		quits     bool
	}{
		{"well", well, Off, "", "", true},
		{"greets in lines", play("220-a\r\n220-b\r\n220 c\r\n", known, bye), Off, "", "", true},
		{"bare codes", play("220\r\n", "250\r\n", "221\r\n"), Off, "", "", true},
		{"line ends of LF", play("220 a\n", "250 a\n", "221 a\n"), Off, "", "", true},

		{"closes", play(), Off, "greeting: the connection was closed", "expects a PROXY header", false},
		{"silent", silent, Off, "greeting: no answer within 5s (it waits for a PROXY header, or it hangs)", "or it hangs: its log, its DNS", false},
		{"busy", says("421 4.3.2 busy\r\n"), Off, "greeting: 421 4.3.2 busy", "log", true},
		{"refuses", says("554-no\r\n554 mail here\r\n"), Off, "greeting: 554-no", "log", true},
		{"refuses late", late("421 4.3.0 no header\r\n"), Off, "greeting: 421 4.3.0 no header", "after some seconds of silence", true},
		{"strange greeting", says("250 hello\r\n"), Off, "greeting: 250 hello", "log", true},
		{"SSH", play("SSH-2.0-OpenSSH_9.2\r\n"), Off, "greeting: no SMTP: SSH-2.0-OpenSSH_9.2", "backends.mta.servers", false},
		{"IMAP", play("* OK IMAP4rev1 \x1b[31m\xff\r\n"), Off, "greeting: no SMTP: * OK IMAP4rev1 ?[31m?", "backends.mta.servers", false},
		{"mixed codes", play("220-a\r\n250 b\r\n"), Off, "greeting: no SMTP: 250 b", "backends.mta.servers", false},
		{"long line", play("220 " + strings.Repeat("a", maxLine) + "\r\n"), Off, "greeting: reply too long", "backends.mta.servers", false},
		{"many lines", play(strings.Repeat("220-a\r\n", maxReply/7+1)), Off, "greeting: reply too long", "backends.mta.servers", false},
		{"talks on", play(greeted + "500 what?\r\n"), Off, "greeting: an answer too many", "spoke again", false},

		{"closes at EHLO", play(greeted), Off, "EHLO: the connection was closed", "log", false},
		{"knows no EHLO", play(greeted, "502 what?\r\n", bye), Off, "EHLO: 502 what?", "expects a PROXY header", true},
		{"likes no EHLO", play(greeted, "550 who?\r\n", bye), Off, "EHLO: 550 who?", "log", true},
		{"EHLO of many lines", play(greeted, strings.Repeat("250-a\r\n", maxReply/7+1)), Off, "EHLO: reply too long", "log", false},
		{"no QUIT", play(greeted, known, "500 what?\r\n"), Off, "QUIT: 500 what?", "log", true},
		{"closes at QUIT", play(greeted, known), Off, "QUIT: the connection was closed", "log", true},

		{"silent at EHLO", func(_ net.Conn, say func(string, ...any), hear func() string) {
			hear()
			say(greeted)
			silent(nil, say, hear)
		}, V2, "EHLO: no answer within 5s", "log", false},

		// A header where none is expected, or another.
		{"silent at v2", silent, V2, "greeting: no answer within 5s (it does not expect our PROXY v2 header, or it hangs)", "or it hangs: its log", false},
		{"wants no v2", play(""), V2, "greeting: the connection was closed, as by a server that does not expect our PROXY v2 header", "does not expect a PROXY v2 header", false},
		{"answers the v1 line first", play("", greeted, "500 what?\r\n", known, bye), V1, "EHLO: 500 what?", "does not expect a PROXY v1 header", true},
		{"answers the v1 line at once", play("", greeted+"500 what?\r\n"), V1, "greeting: an answer too many, as of a server that does not expect our PROXY v1 header", "does not expect a PROXY v1 header", false},
		{"takes the signature for QUIT", play("", greeted, bye), V2, "EHLO: 221 Bye", "does not expect a PROXY v2 header", true},
		{"closes after the greeting", play("", greeted), V2, "EHLO: the connection was closed", "does not expect a PROXY v2 header", false},
		{"Exim that has missed it", play("", greeted, "503 no\r\n", bye), V1, "EHLO: 503 no", "PROXY v1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &site{}
				n.set(c.name, c.manner)
				if c.proxy != Off { // the header is heard like a line, whatever it is
					n.set(c.name, headed(c.proxy, c.manner))
				}
				b := &Backend{Name: "mta", Servers: []Server{{"tcp", c.name}}, Dialer: n, Health: usual, Proxy: c.proxy}
				err := b.check(t.Context(), b.Servers[0])
				n.sessions.Wait()
				if c.err == "" {
					if err != nil {
						t.Error(err)
					}
				} else if err == nil || err.Error() != c.err || !strings.Contains(b.hint(err), c.hint) {
					t.Errorf("error %v (%s), want %s (… %s …)", err, b.hint(err), c.err, c.hint)
				}
				if quits := strings.Count(strings.Join(n.said, "\n"), "QUIT"); quits != 0 != c.quits || quits > 1 {
					t.Errorf("said %q", n.said)
				}
			})
		})
	}
}

// headed reads a header before it does what m does; m hears it as its first line.
func headed(v Version, m manner) manner {
	return func(conn net.Conn, say func(string, ...any), hear func() string) {
		header := make([]byte, MaxHeader)
		if k, err := conn.Read(header); err != nil || !strings.HasPrefix(string(header[:k]), map[Version]string{V1: "PROXY", V2: "\r\n\r\n"}[v]) {
			say("%s", "599 no header\r\n")
			return
		}
		first := true
		m(conn, say, func() string {
			if first {
				first = false
				return "the header"
			}
			return hear()
		})
	}
}

// Of each error of a dial there is something to say.
func TestDialHints(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	b := &Backend{Name: "mta"}
	for _, c := range []struct {
		err  error
		hint string
	}{
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "start the mail server"},
		{dial(os.NewSyscallError("connect", syscall.ENOENT)), "no such socket"},
		{dial(os.NewSyscallError("connect", syscall.EACCES)), "may not connect"},
		{dial(os.NewSyscallError("socket", syscall.EMFILE)), "LimitNOFILE"},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "no route"},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), "no route"},
		{dial(os.ErrDeadlineExceeded), "nobody answers"},
		{dial(context.DeadlineExceeded), "nobody answers"},
		{dial(&net.DNSError{Err: "no such host", Name: "mta", IsNotFound: true}), "cannot be resolved"},
		{dial(&net.DNSError{Err: "i/o timeout", Name: "mta", IsTimeout: true}), "cannot be resolved"},
		{fmt.Errorf("some layer: %w", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED))), "start the mail server"},
		{errors.New("who knows"), ""},
	} {
		if got := b.hint(c.err); !strings.Contains(got, c.hint) || (got == "") != (c.hint == "") {
			t.Errorf("%v: %q, want … %s …", c.err, got, c.hint)
		}
	}
}

// What introduces a check, octet by octet, on real sockets: never UNKNOWN,
// which Postfix and Haraka refuse, and never another client's address.
func TestCheckHeader(t *testing.T) {
	listen := func(network, addr string) net.Listener {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	four, six := listen("tcp", "127.0.0.1:0"), listen("tcp", "[::1]:0")
	unix := listen("unix", filepath.Join(t.TempDir(), "mta"))
	port := func(a net.Addr) int { return a.(*net.TCPAddr).Port }
	for _, c := range []struct {
		net.Listener
		proxy Version
		want  func(peer net.Addr) string
	}{
		{four, Off, func(net.Addr) string { return "" }},
		{four, V1, func(peer net.Addr) string {
			return fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n", port(peer), port(four.Addr()))
		}},
		{four, V2, func(net.Addr) string { return "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" }},
		{six, V1, func(peer net.Addr) string {
			return fmt.Sprintf("PROXY TCP6 ::1 ::1 %d %d\r\n", port(peer), port(six.Addr()))
		}},
		{six, V2, func(net.Addr) string { return "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" }},
		{unix, Off, func(net.Addr) string { return "" }},
		{unix, V1, func(net.Addr) string { return "PROXY TCP4 127.0.0.1 127.0.0.1 0 0\r\n" }},
		{unix, V2, func(net.Addr) string { return "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" }},
	} {
		server := Server{c.Addr().Network(), c.Addr().String()}
		b := &Backend{Name: "mta", Servers: []Server{server}, Proxy: c.proxy, TLVs: all, Helo: "mail.example.org"}
		done := make(chan error, 1)
		go func() { done <- b.check(t.Context(), server) }()
		conn, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		want := c.want(conn.RemoteAddr())
		if len(want) > 0 {
			header := make([]byte, 1000)
			if n, err := conn.Read(header); string(header[:n]) != want { // one read has all of it
				t.Errorf("%s %s: header %q %v, want %q", server, c.proxy, header[:n], err, want)
			}
		}
		in := bufio.NewReader(conn)
		for _, turn := range []struct{ say, hear string }{
			{"220 mta\r\n", "EHLO mail.example.org\r\n"}, {"250-mta\r\n250 SIZE\r\n", "QUIT\r\n"}, {"221 bye\r\n", ""},
		} {
			io.WriteString(conn, turn.say)
			if line, err := in.ReadString('\n'); line != turn.hear || (err == io.EOF) != (turn.hear == "") {
				t.Errorf("%s %s: heard %q %v, want %q", server, c.proxy, line, err, turn.hear)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("%s %s: %v", server, c.proxy, err)
		}
		conn.Close()
	}
}

// Real sockets refuse, too.
func TestCheckOfNobody(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, c := range []struct {
		Server
		hint string
	}{
		{Server{"tcp", l.Addr().String()}, "nothing listens there"},
		{Server{"unix", filepath.Join(dir, "gone")}, "no such socket"},
	} {
		b := &Backend{Name: "mta", Servers: []Server{c.Server}}
		err := b.check(t.Context(), c.Server)
		if err == nil || !strings.HasPrefix(err.Error(), "dial ") || !strings.Contains(b.hint(err), c.hint) {
			t.Errorf("%s: %v (%s)", c.Server, err, b.hint(err))
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("220-a\r\n220 b\r\n250 c\r\n"))
	f.Add([]byte("220\n221-"))
	f.Add([]byte("\r\n\xff 220"))
	f.Add([]byte(strings.Repeat("250-", 20000)))
	f.Fuzz(func(t *testing.T, words []byte) {
		d := &dialogue{in: bufio.NewReaderSize(strings.NewReader(string(words)), maxLine)}
		for {
			code, first, err := d.reply()
			if err != nil {
				if len(err.Error()) > maxWords+100 {
					t.Errorf("error of %d octets", len(err.Error()))
				}
				return
			}
			if code < 200 || code > 599 || !strings.HasPrefix(first, fmt.Sprint(code)) || len(first) > maxWords || strings.ContainsAny(first, "\r\n\x00\x1b") {
				t.Errorf("code %d of %q", code, first)
			}
		}
	})
}
