package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// An echo plays a backend that allocates nothing: it answers what ends a turn.
func echo(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 mta\r\n")
	b := make([]byte, 64<<10)
	ok, goOn := []byte("250 ok\r\n"), []byte("354 go\r\n")
	data, body := false, 0
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		reply := ok
		switch {
		case data:
			if body += n; b[n-1] != '\n' || b[n-2] != '\r' || b[n-3] != '.' {
				continue
			}
			data, body = false, 0
		case b[0] == 'D':
			data, reply = true, goOn
		}
		if _, err := c.Write(reply); err != nil {
			return
		}
	}
}

// noop and message are what a client does between two looks at the counter.
func noop(c net.Conn, b []byte) {
	c.Write(noopLine)
	io.ReadFull(c, b[:len("250 ok\r\n")])
}

func message(c net.Conn, b []byte) {
	for _, step := range messageSteps {
		c.Write(step)
		io.ReadFull(c, b[:len("250 ok\r\n")])
	}
}

var (
	noopLine     = []byte("NOOP\r\n")
	messageSteps = [][]byte{[]byte("MAIL FROM:<a@example.org>\r\n"), []byte("RCPT TO:<b@example.org>\r\n"), []byte("DATA\r\n"),
		[]byte("Subject: test\r\n\r\n" + strings.Repeat("A line of a message, as long as lines are in mail that people write.\r\n", 150) + ".\r\n")}
)

// A turn allocates nothing of ours, in clear; under TLS nothing beyond what
// crypto/tls takes for the same records between two ends without us.
func TestTurnsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates, and makes pools forget; without it this is exact")
		return
	}
	for name, turn := range map[string]func(net.Conn, []byte){"NOOP": noop, "10 KiB message": message} {
		clear, plain := allocations(t, Opportunistic, turn), bareTLS(t, turn)
		if clear >= 1 {
			t.Errorf("%s in clear: %v allocations", name, clear)
		}
		sealed := allocations(t, Implicit, turn)
		if sealed >= plain+1 {
			t.Errorf("%s under TLS: %v allocations, crypto/tls alone %v", name, sealed, plain)
		}
		t.Logf("%s: %v in clear, %v under TLS, of which crypto/tls %v", name, clear, sealed, plain)
	}
}

func allocations(t *testing.T, mode Mode, turn func(net.Conn, []byte)) float64 {
	r := newRig(t, rigConfig{mode: mode})
	c := net.Conn(r.dial())
	go func() { echo(<-r.backends) }()
	if mode == Implicit {
		c = tls.Client(c, r.clientTLS)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 100)
	io.ReadFull(c, b[:len("220 mta\r\n")])
	for range 20 {
		turn(c, b)
	}
	return testing.AllocsPerRun(300, func() { turn(c, b) })
}

// bareTLS is the same turns without a proxy: TLS on both ends of one socket.
func bareTLS(t *testing.T, turn func(net.Conn, []byte)) float64 {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{testPair().cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			echo(c)
		}
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	io.ReadFull(c, b[:len("220 mta\r\n")])
	for range 20 {
		turn(c, b)
	}
	return testing.AllocsPerRun(300, func() { turn(c, b) })
}

// An idle session holds no buffer on either side, whatever it has carried.
func TestIdleSessionHoldsNoBuffer(t *testing.T) {
	if raceEnabled {
		t.Log("this looks at what a waiting goroutine owns, which the race detector rightly reports")
		return
	}
	for _, mode := range []Mode{Implicit, Opportunistic} {
		r := newRig(t, rigConfig{mode: mode})
		c := net.Conn(r.dial())
		go func() { echo(<-r.backends) }()
		if mode == Implicit {
			c = tls.Client(c, r.clientTLS)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 100)
		io.ReadFull(c, b[:len("220 mta\r\n")])
		for range 3 {
			message(c, b)
		}
		c.Write([]byte("NOO")) // half a command must be held, and nothing else
		held := func() (n int) {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			for s := range r.server.sessions {
				n += len(s.in.mem) + len(s.client.cipher.mem) + len(s.relay.out.mem)
			}
			return n
		}
		waitFor(t, func() bool { return held() == smallSize })
		c.Write([]byte("P\r\n"))
		io.ReadFull(c, b[:len("250 ok\r\n")])
		waitFor(t, func() bool { return held() == 0 })
		c.Close()
	}
}

// waitFor waits until ok, which must become true soon.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatal("what must come does not come")
		}
	}
}
