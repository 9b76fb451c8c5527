package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// 2,000 connections from one address while another is served: all but 50 are
// refused, and the other does not notice.
func TestConnectionsOfOneClient(t *testing.T) {
	const flood, allowed = 2000, 50 // the default
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	for n, c := range []struct{ listener, from, other string }{
		{submissions, "127.0.4.1", "127.0.4.2"}, {submission, "127.0.4.3", "127.0.4.4"}, {mx, "127.0.4.5", "127.0.4.6"},
	} {
		t.Run(c.listener, func(t *testing.T) {
			before := p.open(t, submission, c.other)
			before.greet()
			ends := make(chan string, flood)
			var conns []net.Conn
			for range flood {
				conn := p.dial(t, c.listener, c.from)
				conns = append(conns, conn)
				go func() { ends <- firstWords(conn) }()
			}
			for range flood - allowed {
				heard := <-ends
				if c.listener == submissions && heard != "" || c.listener != submissions && !strings.HasPrefix(heard, "421 4.7.0") {
					t.Fatalf("hears %q", heard)
				}
			}
			// The allowed 50 are up; one more of the other's is served, as is
			// the one that was up.
			began := time.Now()
			after := p.open(t, submissions, c.other)
			after.greet()
			for _, other := range []*client{before, after} {
				other.deliver(mail{to: "a@example.test", body: []byte("x\r\n")})
				srv.WaitMessage(t)
				other.quit()
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the other client was served in %v", took)
			}
			for _, conn := range conns {
				conn.Close()
			}
			for range allowed {
				<-ends
			}
			p.settle()
			p.wait("a log line of each session", func() bool { return len(p.all("session closed")) == (n+1)*(flood+2) })
		})
	}
}

// firstWords is what is heard until the end, or the greeting and no more.
func firstWords(conn net.Conn) string {
	var heard strings.Builder
	b := make([]byte, 512)
	for {
		n, err := conn.Read(b)
		heard.Write(b[:n])
		if err != nil {
			return heard.String()
		}
		if strings.HasPrefix(heard.String(), "220") {
			io.Copy(io.Discard, conn)
			return ""
		}
	}
}

// 1,000 handshakes that are given up at all points leave nothing behind, and
// in their midst mail is served.
func TestAbortedHandshakes(t *testing.T) {
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr(), Limits: "max_sessions_per_client: 2000"})
	hello := clientHello(t)
	const aborted, atOnce = 1000, 20
	jobs := make(chan int)
	var clients sync.WaitGroup
	for range atOnce {
		clients.Go(func() {
			for n := range jobs {
				conn, err := net.Dial("tcp", p.addrs[submissions])
				if err != nil {
					t.Errorf("dial: %v", err)
					continue
				}
				abort(conn.(*net.TCPConn), n, hello)
			}
		})
	}
	for n := range aborted {
		if n%250 == 0 {
			c := p.open(t, submissions, "127.0.5.1")
			c.greet()
			c.deliver(mail{to: "a@example.test", body: []byte("x\r\n")})
			srv.WaitMessage(t)
			c.quit()
		}
		jobs <- n
	}
	close(jobs)
	clients.Wait()
	p.settle()
	p.wait("all log lines", func() bool { return len(p.all("session closed")) == aborted+4 })
	for _, e := range p.all("session closed") {
		if e.text("outcome") == "tls_failed" && e.text("level") != "debug" {
			t.Fatalf("a failed handshake is worth more than debug: %v", e)
		}
	}
}

// abort gives a handshake up at one of many points, in one of two ways.
func abort(conn *net.TCPConn, n int, hello string) {
	defer conn.Close()
	switch n % 6 {
	case 0: // nothing at all
	case 1:
		io.WriteString(conn, hello[:n%len(hello)])
	case 2:
		io.WriteString(conn, hello)
	case 3: // a wrong hello
		io.WriteString(conn, hello[:100]+strings.Repeat("\xff", len(hello)-100))
	case 4: // the server's flight is read, and not answered
		io.WriteString(conn, hello)
		io.ReadFull(conn, make([]byte, 100))
	case 5: // the certificate is not believed
		tls.Client(conn, &tls.Config{ServerName: hostname}).Handshake()
	}
	if n%2 == 0 {
		conn.SetLinger(0)
	}
}

// A session that is up lives on while its process is told to end, to the end
// of its transaction; an idle one gets 421.
func TestDrain(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	idle := p.open(t, submission, "")
	idle.greet()
	busy := p.open(t, submissions, "")
	busy.greet()
	busy.envelope("a@example.test")
	busy.Play("> DATA\n<< 354\n> first half")
	before := talk.With(t, p.dial(t, submission, ""))
	before.Play("<< 220")

	p.terminate()
	idle.Play("<< 421 4.3.2\n< FIN")
	before.Play("<< 421 4.3.2\n< FIN")
	if conn, err := net.Dial("tcp", p.addrs[submissions]); err == nil {
		t.Error("still accepts")
		conn.Close()
	}
	busy.Play("> second half\n> .\n<< 250\n<< 421\n< FIN")
	if got := srv.WaitMessage(t); string(got.Body) != "first half\r\nsecond half\r\n" {
		t.Errorf("body %q", got.Body)
	}
	for _, c := range []*client{idle, busy} {
		c.tls.Close()
		if e := p.session(c.tcp.LocalAddr()); e.text("outcome") != "shutdown" {
			t.Errorf("log line %v", e)
		}
	}
}
