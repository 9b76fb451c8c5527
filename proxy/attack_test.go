package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// settled remembers what there is of goroutines and descriptors; what it
// returns waits until there are no more of either, and no session, client or
// place of the turnstile is held.
func settled(t *testing.T, r *rig) func() {
	t.Helper()
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	return func() {
		t.Helper()
		what := ""
		for start := time.Now(); time.Since(start) < 2*patience; time.Sleep(5 * time.Millisecond) {
			for len(r.backends) > 0 {
				(<-r.backends).Close()
			}
			r.server.mu.Lock()
			clients := len(r.server.clients)
			r.server.mu.Unlock()
			what = fmt.Sprintf("%d goroutines (%d before), %d descriptors (%d), %d sessions, %d clients, %d places", runtime.NumGoroutine(), goroutines,
				openDescriptors(), descriptors, r.server.Sessions(), clients, len(r.server.settings.handshakes.free))
			if runtime.NumGoroutine() <= goroutines && openDescriptors() <= descriptors && r.server.Sessions()+clients+len(r.server.settings.handshakes.free) == 0 {
				return
			}
		}
		t.Errorf("left behind: %s", what)
	}
}

func openDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd") // 0 where there is none
	return len(entries)
}

func (r *rig) perClient(prefix string) int {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return r.server.clients[netip.MustParsePrefix(prefix)]
}

// from opens a connection to a rig from an address of loopback's own.
func (r *rig) from(addr string) net.Conn {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(2 * patience))
	return c
}

// 2,000 connections of one address: all but its share are refused, and another
// client's turns go on as before.
func TestFloodOfOneAddress(t *testing.T) {
	r := newRig(t, rigConfig{mode: Opportunistic, limits: Limits{PerClient: 50}})
	back := settled(t, r)
	honest := r.from("127.0.0.1")
	go func() { echo(<-r.backends) }()
	b := make([]byte, 100)
	io.ReadFull(honest, b[:len("220 mta\r\n")])
	var held []net.Conn
	refused := 0
	for i := range 2000 {
		if i == 50 { // all of these have their place
			waitFor(t, func() bool { return r.server.Sessions() == 51 && r.perClient("127.0.0.2/32") == 50 })
		}
		c := r.from("127.0.0.2")
		if held = append(held, c); i >= 50 {
			c.SetReadDeadline(time.Now().Add(2 * patience))
			if n, _ := c.Read(b); strings.HasPrefix(string(b[:n]), "421 4.7.0") {
				refused++
			}
			c.Close()
		}
		if i%100 == 0 {
			start := time.Now()
			noop(honest, b)
			if spent := time.Since(start); spent > 2*time.Second {
				t.Errorf("a turn took %v", spent)
			}
		}
	}
	if refused != 1950 {
		t.Errorf("%d were refused, want 1950", refused)
	}
	for _, c := range held {
		c.Close()
	}
	honest.Close()
	back()
}

// Handshakes that come to nothing, at every point: none leaves anything, and
// one beside them is made.
func TestAbortedHandshakes(t *testing.T) {
	r := newRig(t, rigConfig{mode: Implicit, limits: Limits{Handshakes: 2}})
	first := hello(t)
	back := settled(t, r)
	for i := range 1000 {
		c := r.dial()
		switch i % 5 {
		case 0: // nothing
		case 1:
			c.Write(first[:len(first)/2])
		case 2:
			c.Write(first)
		case 3:
			c.Write(first)
			io.ReadFull(c, make([]byte, 100)) // our own hello
		case 4:
			c.Write(append([]byte{22, 3, 1, 64, 0}, make([]byte, 1000)...))
		}
		if i%2 == 0 {
			reset(c)
		} else {
			c.Close()
		}
	}
	c := tls.Client(r.dial(), r.clientTLS)
	if err := c.Handshake(); err != nil {
		t.Error(err)
	}
	c.Close()
	back()
}

// A handshake that waits for its client holds no place: with room for one that
// computes and a hundred that wait, one more is made at once.
func TestWaitingHandshakesHoldNoPlace(t *testing.T) {
	r := newRig(t, rigConfig{mode: Implicit, limits: Limits{Handshakes: 1}})
	first := hello(t)
	back := settled(t, r)
	var held []net.Conn
	for i := range 100 {
		c := r.dial()
		c.Write(first[:len(first)-i%2*10]) // whole, or lacking its end
		held = append(held, c)
	}
	for range 5 {
		c := tls.Client(r.dial(), r.clientTLS)
		c.SetDeadline(time.Now().Add(patience))
		if err := c.Handshake(); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	for _, c := range held {
		c.Close()
	}
	back()
}

// The points of a session at which its client may go. Whatever it does, the
// session ends at once and no message arrives that was not whole.
func TestClientGoesAtEachPoint(t *testing.T) {
	steps := []string{"", "EHL", "EHLO c\r\n", "MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n", "text\r\n", "text\r\n.", "text\r\n.\r", "AUTH LOGIN\r\n", "dXNl", "QUI"}
	ends := map[string]func(raw net.Conn, c net.Conn){
		"FIN":       func(raw, _ net.Conn) { raw.(*net.TCPConn).CloseWrite() },
		"RST":       func(raw, _ net.Conn) { reset(raw) },
		"close":     func(_, c net.Conn) { c.Close() },
		"clear FIN": func(raw, _ net.Conn) { io.WriteString(raw, "\r\n.\r\n"); raw.(*net.TCPConn).CloseWrite() },
	}
	for _, mode := range []Mode{Implicit, Opportunistic} {
		r := newRig(t, rigConfig{mode: mode})
		back := settled(t, r)
		for end, leave := range ends {
			if end == "clear FIN" && mode != Implicit {
				continue
			}
			for _, last := range steps {
				raw := r.dial()
				c := net.Conn(raw)
				if mode == Implicit {
					c = tls.Client(raw, r.clientTLS)
				}
				c.SetDeadline(time.Now().Add(patience))
				got := make(chan string, 1)
				go func() { got <- recording(<-r.backends) }()
				b := make([]byte, 4096)
				c.Read(b)
				if strings.HasPrefix(last, "text") {
					c.Write([]byte("DATA\r\n"))
					c.Read(b)
				}
				if last == "dXNl" {
					c.Write([]byte("AUTH LOGIN\r\n"))
					c.Read(b)
				}
				c.Write([]byte(last))
				leave(raw, c)
				select {
				case rec := <-r.records:
					if rec.Outcome == Internal || rec.Messages > 0 {
						t.Errorf("%s behind %q: %s, %d messages: %v", end, last, rec.Outcome, rec.Messages, rec.Err)
					}
				case <-time.After(patience):
					t.Errorf("%s behind %q: the session goes on", end, last)
				}
				raw.Close()
				if heard := <-got; strings.Contains(heard, "\r\n.\r\n") {
					t.Errorf("%s behind %q: the backend heard %q", end, last, heard)
				}
			}
		}
		back()
	}
}

// recording plays a backend that agrees to all, and returns what it heard.
func recording(c net.Conn) string {
	defer c.Close()
	io.WriteString(c, "220 mta\r\n")
	var heard strings.Builder
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		heard.Write(b[:n])
		if err != nil {
			return heard.String()
		}
		switch text := string(b[:n]); {
		case strings.HasSuffix(text, "DATA\r\n"):
			io.WriteString(c, "354 go\r\n")
		case strings.HasSuffix(text, "AUTH LOGIN\r\n"):
			io.WriteString(c, "334 x\r\n")
		case strings.HasSuffix(heard.String(), "\r\n.\r\n"):
			io.WriteString(c, "250 queued\r\n")
		case strings.HasSuffix(text, "\r\n") && !strings.Contains(heard.String(), "DATA"):
			io.WriteString(c, "250 ok\r\n")
		}
	}
}

// The points of a session at which its backend may go, and how: the client is
// always told, never of a success, and both are let go.
func TestBackendGoesAtEachPoint(t *testing.T) {
	ends := map[string]func(c net.Conn){
		"FIN":   func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"RST":   reset,
		"close": func(c net.Conn) { c.Close() },
	}
	points := []struct{ says, client string }{
		{"", ""}, {"220-mta", ""}, {"220 mta\r\n", "NOOP\r\n"}, {"220 mta\r\n|250-o", "NOOP\r\n"}, {"220 mta\r\n|250-mta\r\n250-SI", "EHLO c\r\n"},
		{"220 mta\r\n|354 go\r\n", "DATA\r\ntext\r\n.\r\n"}, {"220 mta\r\n|354 g", "DATA\r\ntext\r\n.\r\n"}, {"220 mta\r\n|354 go\r\n|250 queu", "DATA\r\n|text\r\n.\r\n"},
		{"220 mta\r\n|334 x\r\n", "AUTH LOGIN\r\n|eA==\r\n"},
	}
	r := newRig(t, rigConfig{mode: Implicit})
	back := settled(t, r)
	for end, leave := range ends {
		for _, p := range points {
			raw := r.dial()
			c := tls.Client(raw, r.clientTLS)
			c.SetDeadline(time.Now().Add(patience))
			gone := make(chan net.Conn, 1)
			go func() {
				mta := <-r.backends
				b := make([]byte, 4096)
				for i, text := range strings.Split(p.says, "|") {
					if i > 0 {
						mta.Read(b)
					}
					io.WriteString(mta, text)
				}
				leave(mta)
				gone <- mta
			}()
			go func() {
				c.Handshake()
				for piece := range strings.SplitSeq(p.client, "|") {
					io.WriteString(c, piece)
				}
			}()
			said, _ := io.ReadAll(c)
			raw.Close()
			if lines := strings.Split(strings.TrimSpace(string(said)), "\n"); !strings.HasPrefix(lines[len(lines)-1], "421 ") {
				t.Errorf("%s behind %q: the client heard %q", end, p.says, said)
			}
			rec := <-r.records // a reset may come before our connect has returned
			if rec.Outcome != BackendClosed && rec.Outcome != BackendUnreachable && rec.Outcome != Violation || rec.Messages > 0 {
				t.Errorf("%s behind %q: %s: %v", end, p.says, rec.Outcome, rec.Err)
			}
			(<-gone).Close()
		}
	}
	back()
}

// The backend's last words in mid-message are heard, however long the message
// has taken: the deadline of its last reply is past by then.
func TestGoodbyeBehindALongBody(t *testing.T) {
	timeouts := rigTimeouts
	timeouts.Reply = 300 * time.Millisecond
	r := newRig(t, rigConfig{mode: Opportunistic, timeouts: timeouts})
	back := settled(t, r)
	c := r.dial()
	c.SetDeadline(time.Now().Add(patience))
	mta := <-r.backends
	b := make([]byte, 100)
	io.WriteString(mta, "220 mta\r\n")
	c.Read(b)
	io.WriteString(c, "DATA\r\n")
	mta.Read(b)
	io.WriteString(mta, "354 go\r\n")
	c.Read(b)
	time.Sleep(timeouts.Reply + 50*time.Millisecond) // the body is slow
	io.WriteString(mta, "452 4.3.1 disk full\r\n")
	mta.Close()
	for range 20 {
		io.WriteString(c, "text\r\n")
		time.Sleep(5 * time.Millisecond)
	}
	io.WriteString(c, ".\r\n")
	said, _ := io.ReadAll(c)
	if string(said) != "452 4.3.1 disk full\r\n" {
		t.Errorf("the client heard %q", said)
	}
	c.Close()
	back()
}

// A client that is told to go and does not is listened to for a bounded time.
func TestLingerIsBounded(t *testing.T) {
	for _, mode := range []Mode{StartTLS, Implicit} {
		r := newRig(t, rigConfig{mode: mode})
		back := settled(t, r)
		raw := r.dial()
		c := net.Conn(raw)
		if mode == Implicit {
			c = tls.Client(raw, r.clientTLS)
			go func() { recording(<-r.backends) }()
		}
		c.SetDeadline(time.Now().Add(2 * patience))
		c.Read(make([]byte, 100))
		c.Write([]byte("NOOP\x00\r\n"))
		start := time.Now()
		go func() { // without end, and without reading
			for _, err := raw.Write([]byte("x")); err == nil; _, err = raw.Write([]byte("x")) {
				time.Sleep(50 * time.Millisecond)
			}
		}()
		rec := <-r.records
		if spent := time.Since(start); spent > 4*lingerTime || rec.Violation != badLine {
			t.Errorf("mode %d: over after %v: %s %v", mode, spent, rec.Outcome, rec.Err)
		}
		raw.Close()
		back()
	}
}

// A message in records of one octet each arrives as it was sent.
func TestRecordsOfOneOctet(t *testing.T) {
	r := newRig(t, rigConfig{mode: Implicit})
	back := settled(t, r)
	got := make(chan string, 1)
	go func() { got <- recording(<-r.backends) }()
	raw := r.dial()
	c := tls.Client(raw, r.clientTLS)
	c.SetDeadline(time.Now().Add(2 * patience))
	b := make([]byte, 100)
	c.Read(b)
	text := "DATA\r\n"
	c.Write([]byte(text))
	c.Read(b)
	body := strings.Repeat("..a line\r\n", 100) + ".\r\n"
	for i := range len(body) {
		c.Write([]byte(body[i : i+1]))
	}
	c.Read(b)
	raw.Close()
	<-r.records
	if heard := <-got; heard != text+body {
		t.Errorf("%d octets arrived, want %d", len(heard), len(text+body))
	}
	back()
}
