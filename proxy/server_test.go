package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A panic ends its own session, is told and counted, and takes neither a place
// of the turnstile nor anything of the others with it.
func TestPanicEndsOneSession(t *testing.T) {
	testPair()
	good := &tls.Config{Certificates: []tls.Certificate{testPair().cert}}
	bad := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { panic("in a handshake") }}
	for _, c := range []struct {
		name  string
		mode  Mode
		fault func(s *stage)
		first string // what the victim says in clear before the fault
		said  string
	}{
		{"in the handshake", Implicit, func(s *stage) { s.config = func() *tls.Config { return bad } }, "", ""},
		{"in the dial", Opportunistic, func(s *stage) {
			s.dial = func(context.Context) (net.Conn, error) { panic("in a dial") }
		}, "", "421 4.3.0 mail.example.org Service not available, try again later\r\n"},
		{"in the relay", Opportunistic, func(s *stage) {
			s.config = func() *tls.Config { panic("in a relay") }
		}, "MAIL FROM:<>\r\nDATA\r\ntext\r\n.\r\nNOOP\r\n", "220 mta\r\n250 ok\r\n354 go\r\n250 ok\r\n250 ok\r\n421 4.3.0 mail.example.org Service not available, try again later\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, c.mode, agreeable)
				defer s.close()
				core, logs := observer.New(zapcore.ErrorLevel)
				counters := &Counters{}
				s.server.Log, s.server.Observer = zap.New(core), MultiObserver{counters, s}
				other := s.connect()
				sealed := other
				if c.mode == Implicit {
					sealed = s.seal(other)
				}
				expect(t, sealed, "220 mta\r\n")

				if c.first == "" {
					c.fault(s)
				}
				victim := s.connect()
				heard := s.hear(victim)
				if c.mode == Implicit {
					victim.Write(hello(t))
				}
				if c.first != "" {
					io.WriteString(victim, c.first)
					synctest.Wait()
					c.fault(s)
					io.WriteString(victim, "STARTTLS\r\n")
				}
				r := <-s.records
				if said := <-heard; r.Outcome != Internal || said != c.said {
					t.Errorf("%s, heard %q; want %s, %q", r.Outcome, said, Internal, c.said)
				}
				if logs.FilterMessageSnippet("defect").Len() != 1 || counters.Totals().Sessions[SessionKey{"test", Internal}] != 1 {
					t.Error("the fault is not told, or not counted")
				}
				victim.Close()
				s.config = func() *tls.Config { return good }

				io.WriteString(sealed, "QUIT\r\n")
				expect(t, sealed, "221 bye\r\n")
				if r := <-s.records; r.Outcome != Completed {
					t.Errorf("the other session: %s, %v", r.Outcome, r.Err)
				}
				other.Close()
			})
		})
	}
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if string(got[:n]) != want {
		t.Errorf("got %q %v, want %q", got[:n], err, want)
	}
}

// hello returns a ClientHello as it goes over the wire.
func hello(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go tls.Client(ours, &tls.Config{ServerName: "mail.example.org"}).Handshake()
	b := make([]byte, 16<<10)
	n, err := theirs.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// Over a limit a client hears 421 where SMTP is in clear, and is closed before
// the handshake where not; whoever goes makes room.
func TestLimits(t *testing.T) {
	testPair()
	const full = "421 4.7.0 mail.example.org Too many connections, try again later\r\n"
	for _, limits := range []Limits{{Sessions: 2}, {PerClient: 2}} {
		for mode, said := range map[Mode]string{Implicit: "", StartTLS: full, Opportunistic: full} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, mode, agreeable)
				s.apply(func(now *Settings) { now.Limits = limits })
				defer s.close()
				var held []net.Conn
				for range 2 {
					c := s.connect()
					s.hear(c)
					held = append(held, c)
					synctest.Wait()
				}
				for range 3 {
					c := s.connect()
					heard := <-s.hear(c)
					if r := <-s.records; r.Outcome != Refused || heard != said || r.Backend != "" {
						t.Errorf("%+v, mode %d: %s, heard %q", limits, mode, r.Outcome, heard)
					}
					c.Close()
				}
				held[0].Close()
				<-s.records
				synctest.Wait()
				c := s.connect()
				s.hear(c)
				synctest.Wait()
				if n := s.server.Sessions(); n != 2 {
					t.Errorf("%d sessions, want 2", n)
				}
				c.Close()
				held[1].Close()
			})
		}
	}
}

// A client counts as an IPv4 address or an IPv6 /64.
func TestPerClientNetworks(t *testing.T) {
	s := &Server{}
	s.once.Do(s.init)
	one := &generation{Settings: Settings{Limits: Limits{PerClient: 1}}}
	for addr, want := range map[string]bool{"203.0.113.7": false, "203.0.113.8": true, "2001:db8::ffff": false, "2001:db8:0:1::1": true} {
		for _, first := range []string{"203.0.113.7", "2001:db8::1"} {
			s.clients = map[netip.Prefix]int{}
			s.enter(&session{settings: one}, netip.MustParseAddr(first))
			related := strings.Contains(first, ":") == strings.Contains(addr, ":")
			if got := s.enter(&session{settings: one}, netip.MustParseAddr(addr)); got != (want || !related) {
				t.Errorf("%s beside %s: %v", addr, first, got)
			}
		}
	}
	for range 2 {
		if !s.enter(&session{settings: one}, netip.Addr{}) {
			t.Error("a unix socket's peer is refused")
		}
	}
}

// A client that is set up for another port is told of once an hour.
func TestWrongModeIsSaidOnceAnHour(t *testing.T) {
	testPair()
	for _, c := range []struct {
		mode    Mode
		first   string
		mistake string
		port    string
	}{
		{Implicit, "EHLO client\r\n", "client speaks plain SMTP where TLS is expected", "587"},
		{StartTLS, "\x16\x03\x01\x02\x00\x01", "client speaks TLS at once where STARTTLS is expected", "465"},
		{Opportunistic, "\x16\x03\x01\x02\x00\x01", "client speaks TLS at once where STARTTLS is expected", "465"},
		{Implicit, "GET / HTTP/1.1\r\n", "", ""},
		{StartTLS, "GET / HTTP/1.1\r\n", "", ""},
		{Implicit, "\x00\x01\x02\x03\x04\x05", "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, c.mode, agreeable)
			core, logs := observer.New(zapcore.InfoLevel)
			s.server.Log = zap.New(core)
			defer s.close()
			visit := func() {
				conn := s.connect()
				s.hear(conn)
				io.WriteString(conn, c.first)
				synctest.Wait()
				conn.Close()
				<-s.records
			}
			want := 0
			if c.mistake != "" {
				want = 1
			}
			for _, pause := range []time.Duration{0, time.Minute, 58 * time.Minute} {
				time.Sleep(pause)
				visit()
				if got := logs.FilterMessage(c.mistake); logs.Len() != want || got.Len() != want {
					t.Fatalf("%q: %v", c.first, logs.All())
				}
			}
			time.Sleep(2 * time.Minute)
			visit()
			if logs.Len() != 2*want {
				t.Errorf("%q, an hour later: %d lines", c.first, logs.Len())
			}
			if want == 1 {
				f := logs.All()[0].ContextMap()
				if f["right_port"] != c.port || f["listener"] != "test" || f["client"] != "203.0.113.7" {
					t.Errorf("%v", f)
				}
			}
		})
	}
}

// Clients from everywhere must not fill memory with what was said of them.
func TestNoticesAreBounded(t *testing.T) {
	var n notices
	now := time.Unix(0, 0)
	prefix := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	for i := range 2 * maxNotices {
		if got := n.first(prefix(i), now); got != (i < maxNotices) {
			t.Fatalf("client %d: %v", i, got)
		}
	}
	if !n.first(prefix(3*maxNotices), now.Add(noticeEvery)) || len(n.seen) != 1 {
		t.Errorf("an hour later %d are remembered", len(n.seen))
	}
}

// A greeting that is no greeting is quoted for the operator, whatever its code.
func TestOddGreetingIsTold(t *testing.T) {
	testPair()
	for _, greets := range []string{"250 mta is fine", "554 5.7.1 go away"} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Opportunistic, func(_ *stage, c net.Conn) { io.WriteString(c, greets+"\r\n") })
			defer s.close()
			c := s.connect()
			s.hear(c)
			if r := <-s.records; r.Outcome != BackendRefused || !strings.Contains(r.Err.Error(), greets) {
				t.Errorf("%s, %v; want %q in it", r.Outcome, r.Err, greets)
			}
			c.Close()
		})
	}
}

// A trusted peer of a unix socket must say who the client is. One that does
// not is refused, and so is a header beyond the bound, whose rest is not read.
func TestHeaderOnUnixSocket(t *testing.T) {
	testPair()
	head := func(tlvs int) string {
		return "\r\n\r\n\x00\r\nQUIT\n\x21\x11" + string([]byte{byte((12 + tlvs) >> 8), byte(12 + tlvs)}) +
			"\xcb\x00\x71\x07\xc6\x33\x64\x01\x13\x88\x00\x19" + strings.Repeat("\x00", tlvs)
	}
	for first, want := range map[string]Outcome{
		"EHLO client\r\n":          Violation,
		head(0):                    ClientClosed,
		head(maxProxyHeader - 28):  ClientClosed,
		head(maxProxyHeader - 27):  Violation,
		head(8*maxProxyHeader - 1): Violation,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Opportunistic, agreeable)
			defer s.close()
			s.apply(func(now *Settings) { now.Listeners[0].AcceptUnix = true })
			ours, theirs := net.Pipe()
			s.listener.conns <- pipe{theirs, &net.UnixAddr{}, &net.UnixAddr{}}
			s.hear(ours)
			n, _ := io.WriteString(ours, first)
			synctest.Wait()
			ours.Close()
			r := <-s.records
			if r.Outcome != want || n > maxProxyHeader || want == ClientClosed && r.Client.String() != "203.0.113.7:5000" {
				t.Errorf("%d octets, of which %d were read: %s, %v, %v", len(first), n, r.Outcome, r.Client, r.Err)
			}
			if r.Err != nil && strings.Contains(r.Err.Error(), "AddrPort") {
				t.Errorf("%v", r.Err)
			}
		})
	}
}

// A backend that waits for a PROXY header, which it is never sent, shuts every
// client out: Postfix with "421 4.3.0 … Server local error" after five seconds.
func TestBackendThatWaitedForAHeaderIsNamed(t *testing.T) {
	testPair()
	for after, kind := range map[time.Duration]string{time.Second: "", 5 * time.Second: backendMismatch} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Opportunistic, func(_ *stage, c net.Conn) {
				time.Sleep(after)
				io.WriteString(c, "421 4.3.0 mta Server local error\r\n")
			})
			defer s.close()
			c := s.connect()
			s.hear(c)
			r := <-s.records
			if r.Outcome != BackendRefused || r.Violation != kind || !strings.Contains(r.Err.Error(), "4.3.0 mta") {
				t.Errorf("after %s: %s, %q, %v", after, r.Outcome, r.Violation, r.Err)
			}
			if told := strings.Contains(r.Err.Error(), "proxy_protocol"); told != (kind != "") {
				t.Errorf("after %s: %v", after, r.Err)
			}
			c.Close()
		})
	}
}
