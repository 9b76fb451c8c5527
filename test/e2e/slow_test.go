package e2e

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// Each stage of these has one second, and each slow client a stage.
const short = "cleartext: 1s, handshake: 1s, dial: 1s, greeting: 1s, command: 1s, body: 1s, reply: 1s"

// A slow client costs at most its own place, and that not for longer than the
// stage lasts in all: an octet now and then does not prolong it.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	hello := clientHello(t)
	for _, c := range []struct {
		name     string
		listener string
		begin    func(*testing.T, *process, string) (*talk.Talker, net.Conn)
		dribble  string // what is sent, octet by octet, too slowly to be done in time
		outcomes string
	}{
		{"silent on 465", submissions, connected, "", "client_timeout"},
		{"silent on 587", submission, connected, "", "client_timeout no_tls"},
		{"silent on 25", mx, connected, "", "client_timeout"},
		{"half a command on 587", submission, connected, "EHLO client.example", "client_timeout no_tls"},
		{"commands on 587", submission, connected, strings.Repeat("NOOP\r\n", 4), "client_timeout no_tls"},
		{"half a command on 25", mx, connected, "EHLO client.example", "client_timeout"},
		{"a ClientHello on 465", submissions, connected, hello, "client_timeout"},
		{"silent behind STARTTLS", submission, started, "", "client_timeout"},
		{"a ClientHello behind STARTTLS", submission, started, hello, "client_timeout"},
		{"a ClientHello behind STARTTLS on 25", mx, started, hello, "client_timeout"},
		{"silent in TLS", submissions, greeted, "", "client_timeout"},
		{"half a command in TLS", submission, greeted, "NOOP NOOP NOOP NOOP", "client_timeout"},
		{"AUTH without an answer", submissions, authenticating, "", "client_timeout"},
		{"half an answer to AUTH", submissions, authenticating, "AGFsaWNlAHNlY3JldA", "client_timeout"},
		{"silent in the body", submissions, inBody, "", "client_timeout"},
		{"silent in a chunk", submission, inChunk, "", "client_timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := mta.Start(t, mta.Config{Proxy: mta.V2, Users: map[string]string{user: password}})
			p := start(t, setup{Server: srv.Addr(), Timeouts: short})
			_, conn := c.begin(t, p, c.listener)
			from := time.Now()
			gone := make(chan time.Duration, 1)
			go func() {
				io.Copy(io.Discard, conn)
				gone <- time.Since(from)
			}()
			stop := dribble(conn, c.dribble)
			defer stop()
			e := p.session(conn.LocalAddr())
			if took := <-gone; took > 5*time.Second {
				t.Errorf("ended after %v", took)
			}
			if !strings.Contains(c.outcomes, e.text("outcome")) {
				t.Errorf("outcome %q, want %s", e.text("outcome"), c.outcomes)
			}
			srv.WaitIdle(t)
			if got := srv.Messages(); len(got) > 0 {
				t.Errorf("delivered %q", got[0].Body)
			}
			p.settle()
		})
	}
}

// dribble sends text so slowly that no stage of a second could see all of it.
// It begins again when it is done, and ends with the connection.
func dribble(conn io.Writer, text string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		again := time.NewTicker(150 * time.Millisecond)
		defer again.Stop()
		for i := 0; text != ""; i++ {
			select {
			case <-done:
				return
			case <-again.C:
			}
			if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func connected(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	conn := p.dial(t, listener, "")
	c := talk.With(t, conn)
	if listener != submissions {
		c.Play("<< 220")
	}
	return c, conn
}

func started(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	c, conn := connected(t, p, listener)
	c.Play("> EHLO x\n<< 250\n> STARTTLS\n<< 220")
	return c, conn
}

func greeted(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	c := p.open(t, listener, "")
	c.greet()
	return c.Talker, c.tls
}

func authenticating(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	c, conn := greeted(t, p, listener)
	c.Play("> AUTH PLAIN\n<< 334")
	return c, conn
}

func inBody(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	c := p.open(t, listener, "")
	c.greet()
	c.envelope("a@example.test")
	c.Play("> DATA\n<< 354\n>> half a l")
	return c.Talker, c.tls
}

func inChunk(t *testing.T, p *process, listener string) (*talk.Talker, net.Conn) {
	c := p.open(t, listener, "")
	c.greet()
	c.envelope("a@example.test")
	c.Play(">> BDAT 1000 LAST\\r\\nhalf")
	return c.Talker, c.tls
}

// A client that is slow, but never stands still, gets its body through: body is
// without progress.
func TestSlowBodyIsTaken(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr(), Timeouts: short})
	c, _ := inBody(t, p, submissions)
	for range 8 {
		time.Sleep(250 * time.Millisecond)
		c.Send(".")
	}
	c.Play(">> \\r\\n.\\r\\n\n<< 250")
	if got := srv.WaitMessage(t); string(got.Body) != "half a l........\r\n" {
		t.Errorf("body %q", got.Body)
	}
}

// One who does not read what he is told costs nobody else anything: his
// session ends when the replies to him have stood still for too long.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Extensions: []string{strings.Repeat("X", 60000), "PIPELINING"}})
	p := start(t, setup{Server: srv.Addr(), Timeouts: short})
	c := p.open(t, submissions, "")
	c.tls.SetWriteDeadline(time.Now().Add(3 * time.Second))
	go func() { // until the buffers on the way are full, or the session is over
		for {
			if _, err := c.tls.Write([]byte(strings.Repeat("EHLO x\r\n", 100))); err != nil {
				return
			}
		}
	}()
	e := p.session(c.tcp.LocalAddr())
	if outcome := e.text("outcome"); outcome != "client_timeout" && outcome != "violation" {
		t.Errorf("log line %v", e)
	}
	p.settle()
}
