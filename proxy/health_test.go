package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"smtpseal/proxy/backend"
)

// What sessions see tells of their server's health; what a server says of one
// client does not, or that client could take it down.
func TestSessionsTellOfHealth(t *testing.T) {
	testPair()
	const unknown = "unknown"
	confused := func(_ *stage, c net.Conn) {
		io.WriteString(c, "220 mta\r\n")
		io.ReadFull(c, make([]byte, len("EHLO c\r\n")))
		io.WriteString(c, "503 5.5.1 header missing\r\n")
	}
	for _, c := range []struct {
		name    string
		mta     func(*stage, net.Conn)
		version backend.Version
		want    string // in the error, or "" for up
	}{
		{"served", agreeable, backend.V2, ""},
		{"greeted alone", say("220 mta\r\n"), backend.V2, unknown},
		{"closed", say(""), backend.V2, "greeting: the backend closed"},
		{"silent", func(_ *stage, c net.Conn) { io.Copy(io.Discard, c) }, backend.V2, "greeting: the backend did not greet"},
		{"said too much", say("220 mta\r\n500 what?\r\n"), backend.V2, "greeting: the backend spoke again"},
		{"no SMTP", say("hello\r\n"), backend.V2, `"hello"`},
		{"another code", say("250 mta\r\n"), backend.V2, `"250 mta"`},
		{"knows no EHLO", confused, backend.V2, "EHLO: the backend does not know EHLO"},
		{"does not want this client", say("421 4.7.0 too many connections from you\r\n"), backend.V2, unknown},
		{"nor that one, for good", say("554-5.7.1 go\r\n554 5.7.1 away\r\n"), backend.V2, unknown},
		{"does not want us", say("421 4.7.0 too many connections from you\r\n"), backend.Off, "too many connections"},
		{"wants nobody", say("421 4.3.2 shutting down\r\n"), backend.V2, "shutting down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, Opportunistic, func(s *stage, conn net.Conn) {
					if c.version != backend.Off { // the header comes in one write
						conn.Read(make([]byte, backend.MaxHeader))
					}
					c.mta(s, conn)
				})
				defer s.close()
				b := &backend.Backend{Name: "mta", Servers: s.settings.Listeners[0].Backend.Servers, Dialer: s, Proxy: c.version,
					Health: backend.Health{Interval: time.Hour}}
				s.apply(func(now *Settings) { now.Listeners[0].Backend = b })
				conn := s.connect()
				s.hear(conn)
				io.WriteString(conn, "EHLO c\r\nQUIT\r\n")
				<-s.records
				conn.Close()
				state := b.State()[0]
				known, bad := c.want != unknown, c.want != unknown && c.want != ""
				if state.Known != known || state.Up == bad || bad && !strings.Contains(state.Error, c.want) || !bad && state.Error != "" {
					t.Errorf("%+v, want %q", state, c.want)
				}
			})
		})
	}
}

// A drain that cuts sessions off says nothing of their servers.
func TestCutOffBlamesNoServer(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, func(_ *stage, c net.Conn) { io.Copy(io.Discard, c) })
		b := s.settings.Listeners[0].Backend
		b.Health.Interval = time.Hour
		c := s.connect()
		s.hear(c)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.server.Shutdown(ctx)
		<-s.records
		c.Close()
		s.playing.Wait()
		if state := b.State()[0]; state.Known {
			t.Errorf("%+v", state)
		}
	})
}
