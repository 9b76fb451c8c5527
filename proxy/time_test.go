package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A timing is a session that must end by itself after some time. The client
// runs until then, and hears everything unless it is deaf.
type timing struct {
	name    string
	mode    Mode
	mta     func(s *stage, c net.Conn)
	set     func(s *stage)
	client  func(s *stage, c net.Conn)
	sealed  bool // the client has made its handshake
	deaf    bool
	outcome Outcome
	after   time.Duration
	said    string // the last that the client hears
}

func say(text string) func(*stage, net.Conn) {
	return func(_ *stage, c net.Conn) { io.WriteString(c, text) }
}

func trickle(text string, every time.Duration) func(*stage, net.Conn) {
	return func(_ *stage, c net.Conn) { dribble(c, text, every) }
}

// then does one thing behind the other.
func then(steps ...func(*stage, net.Conn)) func(*stage, net.Conn) {
	return func(s *stage, c net.Conn) {
		for _, step := range steps {
			step(s, c)
		}
	}
}

func trust(s *stage) {
	s.apply(func(now *Settings) { now.Listeners[0].AcceptProxy = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} })
}

func blackHole(s *stage) {
	s.dial = func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
}

func refusing(s *stage) {
	s.dial = func(context.Context) (net.Conn, error) { return nil, errRefused }
}

// deafAfterDATA plays a backend that reads no more once it has said "go on".
func deafAfterDATA(_ *stage, c net.Conn) {
	io.WriteString(c, "220 mta\r\n")
	io.ReadFull(c, make([]byte, len("DATA\r\n")))
	io.WriteString(c, "354 go\r\n")
	time.Sleep(time.Hour)
}

// endless plays a backend whose reply comes octet by octet and has no end.
func endless(_ *stage, c net.Conn) {
	io.WriteString(c, "220 mta\r\n")
	io.ReadFull(c, make([]byte, len("NOOP\r\n")))
	dribble(c, "250-and so on\r\n", time.Second)
}

// noopOnce reads the greeting and says NOOP.
func noopOnce(_ *stage, c net.Conn) {
	io.ReadFull(c, make([]byte, len("220 mta\r\n")))
	io.WriteString(c, "NOOP\r\n")
}

// noops says NOOP again and again, in time.
func noops(_ *stage, c net.Conn) {
	for err := error(nil); err == nil; _, err = io.WriteString(c, "NOOP\r\n") {
		time.Sleep(4*time.Minute + 7*time.Second)
	}
}

const (
	timeoutReply = "421 4.4.2 mail.example.org Timeout, closing connection\r\n"
	downReply    = "421 4.3.0 mail.example.org Service not available, try again later\r\n"
	lostReply    = "421 4.4.2 mail.example.org Service lost, try again later\r\n"
	minutes      = time.Minute
	seconds      = time.Second
)

// timings are every deadline of a session. Where the client is slow it is not
// silent: a deadline of each read would never come.
var timings = []timing{
	{name: "cleartext, silent", mode: StartTLS, outcome: ClientTimeout, after: 30 * seconds, said: timeoutReply},
	{name: "cleartext, an octet a second", mode: StartTLS, client: trickle("N", seconds), outcome: ClientTimeout, after: 30 * seconds, said: timeoutReply},
	{name: "cleartext, commands", mode: StartTLS, client: trickle("NOOP\r\n", seconds), outcome: ClientTimeout, after: 30 * seconds, said: timeoutReply},
	{name: "cleartext, not reading", mode: StartTLS, deaf: true, outcome: ClientTimeout, after: 30 * seconds},
	{name: "PROXY header, silent", mode: StartTLS, set: trust, outcome: Violation, after: 5 * seconds},
	{name: "PROXY header, dribbled", mode: Implicit, set: trust, client: trickle("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x0f\x00", seconds), outcome: Violation, after: 5 * seconds},

	{name: "handshake, silent", mode: Implicit, outcome: ClientTimeout, after: 10 * seconds},
	{name: "handshake, a hello dribbled", mode: Implicit, client: then(say("\x16\x03\x01\x02\x00\x01\x00"), trickle("\x00", seconds)), outcome: ClientTimeout, after: 10 * seconds},
	{name: "handshake behind STARTTLS", mode: StartTLS, client: then(say("STARTTLS\r\n"), trickle("\x16\x03\x01\x02\x00\x01\x00", seconds)), outcome: ClientTimeout, after: 10 * seconds},
	{name: "handshake on 25", mode: Opportunistic, mta: agreeable, client: then(say("STARTTLS\r\n"), trickle("\x16\x03\x01\x02\x00\x01\x00", seconds)), outcome: ClientTimeout, after: 10 * seconds},

	{name: "dial", mode: Implicit, set: blackHole, sealed: true, outcome: BackendUnreachable, after: 10 * seconds, said: downReply},
	{name: "dial on 25", mode: Opportunistic, set: blackHole, outcome: BackendUnreachable, after: 10 * seconds, said: downReply},
	{name: "backend down on 587, nothing asked", mode: StartTLS, set: refusing, sealed: true, outcome: BackendUnreachable, after: 5 * minutes, said: downReply},
	{name: "greeting, silent", mode: Implicit, mta: func(_ *stage, c net.Conn) { io.Copy(io.Discard, c) }, sealed: true, outcome: BackendUnreachable, after: 30 * seconds, said: downReply},
	{name: "greeting, dribbled", mode: Implicit, mta: trickle("220-mta\r\n", seconds), sealed: true, outcome: BackendUnreachable, after: 30 * seconds, said: downReply},

	{name: "command, silent", mode: Implicit, mta: agreeable, sealed: true, outcome: ClientTimeout, after: 5 * minutes, said: timeoutReply},
	{name: "command, an octet a second", mode: Implicit, mta: agreeable, client: trickle("N", seconds), sealed: true, outcome: ClientTimeout, after: 5 * minutes, said: timeoutReply},
	{name: "command on 25, an octet a second", mode: Opportunistic, mta: agreeable, client: trickle("N", seconds), outcome: ClientTimeout, after: 5 * minutes, said: timeoutReply},
	{name: "command in a transaction", mode: Implicit, mta: agreeable, client: then(say("MAIL FROM:<>\r\n"), trickle("R", seconds)), sealed: true, outcome: ClientTimeout, after: 5 * minutes, said: timeoutReply},
	{name: "AUTH line, an octet a second", mode: Implicit, mta: agreeable, client: then(say("AUTH LOGIN\r\n"), trickle("A", seconds)), sealed: true, outcome: ClientTimeout, after: 5 * minutes, said: timeoutReply},
	{name: "reply not read", mode: Opportunistic, mta: agreeable, client: noopOnce, deaf: true, outcome: ClientTimeout, after: 5 * minutes},

	{name: "body, no progress", mode: Implicit, mta: agreeable, client: say("DATA\r\ntext\r\n"), sealed: true, outcome: ClientTimeout, after: 3 * minutes, said: timeoutReply},
	{name: "chunk, no progress", mode: Implicit, mta: script(answers{0, "250-mta\r\n250 CHUNKING\r\n"}), client: say("EHLO c\r\nBDAT 9\r\ntext\r\n"), sealed: true, outcome: ClientTimeout, after: 3 * minutes, said: timeoutReply},
	{name: "unannounced chunk, no progress", mode: Implicit, mta: agreeable, client: say("BDAT 9\r\ntext\r\n"), sealed: true, outcome: ClientTimeout, after: 3 * minutes, said: timeoutReply},
	{name: "body, the backend reads no more, and the client sends no more", mode: Opportunistic, mta: deafAfterDATA, client: say("DATA\r\ntext\r\n"), outcome: BackendClosed, after: 6 * minutes, said: lostReply},
	{name: "body, the backend reads no more", mode: Opportunistic, mta: deafAfterDATA, client: say("DATA\r\ntext\r\n.\r\n"), outcome: BackendClosed, after: 3 * minutes, said: lostReply},

	{name: "reply, silent", mode: Implicit, mta: script(), client: say("NOOP\r\n"), sealed: true, outcome: BackendClosed, after: 10 * minutes, said: lostReply},
	{name: "reply, without end", mode: Implicit, mta: endless, client: say("NOOP\r\n"), sealed: true, outcome: BackendClosed, after: 10 * minutes, said: lostReply},
	{name: "EHLO reply, silent", mode: Implicit, mta: script(), client: say("EHLO c\r\n"), sealed: true, outcome: BackendClosed, after: 10 * minutes, said: lostReply},
	{name: "reply to a message", mode: Implicit, mta: script(answers{0, "354 go\r\n"}), client: say("DATA\r\n.\r\n"), sealed: true, outcome: BackendClosed, after: 10 * minutes, said: lostReply},
	{name: "each of several replies", mode: Implicit, mta: script(answers{9 * minutes, "250 1\r\n"}, answers{9 * minutes, "250 2\r\n"}, answers{11 * minutes, "250 3\r\n"}),
		client: say("MAIL\r\nRCPT\r\nRSET\r\n"), sealed: true, outcome: BackendClosed, after: 28 * minutes, said: "250 1\r\n250 2\r\n" + lostReply},

	{name: "session", mode: Implicit, mta: agreeable, client: noops, sealed: true, outcome: ClientTimeout, after: 24 * time.Hour, said: timeoutReply},
}

func TestDeadlines(t *testing.T) {
	testPair()
	for _, c := range timings {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t) })
		})
	}
}

func (c *timing) run(t *testing.T) {
	s := newStage(t, c.mode, c.mta)
	if c.set != nil {
		c.set(s)
	}
	conn := s.connect()
	defer func() { conn.Close(); s.close() }()
	if c.sealed {
		if c.mode == StartTLS {
			io.ReadFull(conn, make([]byte, len("220 mail.example.org ESMTP\r\n")))
			io.WriteString(conn, "STARTTLS\r\n")
			io.ReadFull(conn, make([]byte, len("220 2.0.0 Ready to start TLS\r\n")))
		}
		conn = s.seal(conn)
	}
	var heard <-chan string
	if !c.deaf {
		heard = s.hear(conn)
	}
	if c.client != nil {
		s.playing.Go(func() { c.client(s, conn) })
	}
	r := <-s.records
	const farewell = 7 * time.Second // what a client that does not read may cost beyond its time
	if r.Outcome != c.outcome || r.Duration < c.after || r.Duration > c.after+farewell {
		t.Errorf("%s after %v (%v), want %s after %v", r.Outcome, r.Duration, r.Err, c.outcome, c.after)
	}
	if !c.deaf {
		if said := <-heard; !strings.HasSuffix(said, c.said) || c.said == "" && said != "" && c.mode == Implicit {
			t.Errorf("the client heard %.300q, want %q", said, c.said)
		}
	}
}

// A body may be slow for as long as it moves.
func TestSlowBodyLives(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Implicit, agreeable)
		c := s.connect()
		defer s.close()
		tls := s.seal(c)
		heard := s.hear(tls)
		io.WriteString(tls, "MAIL FROM:<>\r\nDATA\r\n")
		for range 200 {
			time.Sleep(2 * time.Minute)
			io.WriteString(tls, "a")
		}
		io.WriteString(tls, "\r\n.\r\nQUIT\r\n")
		r := <-s.records
		if said := <-heard; r.Outcome != Completed || r.Messages != 1 || said != "220 mta\r\n250 ok\r\n354 go\r\n250 ok\r\n221 bye\r\n" {
			t.Errorf("%s: %v, %d messages, heard %q", r.Outcome, r.Err, r.Messages, said)
		}
		c.Close()
	})
}

// What a drain does to a session depends on where it stands.
func TestDrain(t *testing.T) {
	testPair()
	const downing = "421 4.3.2 mail.example.org Service shutting down, try again later\r\n"
	for _, c := range []struct {
		name    string
		mode    Mode
		mta     func(*stage, net.Conn)
		set     func(*stage)
		before  string        // said by the client before the drain
		later   string        // and 20 seconds into it
		outcome Outcome       //
		took    time.Duration // by Shutdown
		said    string
	}{
		{"idle", Opportunistic, agreeable, nil, "NOOP\r\n", "", Shutdown, 0, downing},
		{"before STARTTLS", StartTLS, nil, nil, "NOOP\r\n", "", Shutdown, 0, downing},
		{"half a command", Opportunistic, agreeable, nil, "NOO", "", Shutdown, 0, downing},
		{"in a transaction that ends", Opportunistic, agreeable, nil, "MAIL FROM:<>\r\n", "RCPT TO:<a>\r\nDATA\r\ntext\r\n.\r\n", Shutdown, 20 * time.Second, "354 go\r\n250 ok\r\n" + downing},
		{"the next transaction sent along with the end of one", Opportunistic, agreeable, nil, "MAIL FROM:<>\r\n", "RCPT TO:<a>\r\nDATA\r\ntext\r\n.\r\nMAIL FROM:<>\r\n", Shutdown, 20 * time.Second, "354 go\r\n250 ok\r\n" + downing},
		{"in a transaction that is reset", Opportunistic, agreeable, nil, "MAIL FROM:<>\r\n", "RSET\r\n", Shutdown, 20 * time.Second, "250 ok\r\n" + downing},
		{"in a body that ends", Opportunistic, agreeable, nil, "MAIL FROM:<>\r\nDATA\r\ntext\r\n", ".\r\n", Shutdown, 20 * time.Second, "250 ok\r\n" + downing},
		{"in a transaction without end", Opportunistic, agreeable, nil, "MAIL FROM:<>\r\n", "", Shutdown, 60 * time.Second, "250 ok\r\n"},
		{"in a body without end", Opportunistic, agreeable, nil, "DATA\r\ntext", "", Shutdown, 60 * time.Second, "354 go\r\n"},
		{"half a command in a transaction", Opportunistic, agreeable, nil, "ETRN x\r\nMAIL FROM:<>\r\n", "RCP", Shutdown, 60 * time.Second, ""},
		{"waiting for a reply", Opportunistic, script(answers{30 * time.Second, "250 late\r\n"}), nil, "NOOP\r\n", "", Shutdown, 29 * time.Second, "250 late\r\n" + downing},
		{"waiting for a greeting", Opportunistic, func(_ *stage, c net.Conn) { time.Sleep(10 * time.Second); agreeable(nil, c) }, nil, "", "", Shutdown, 9 * time.Second, "220 mta\r\n" + downing},
		{"in a handshake", Implicit, nil, nil, "\x16\x03\x01\x02\x00", "", ClientTimeout, 9 * time.Second, ""},
		{"in a dial", Opportunistic, nil, blackHole, "", "", BackendUnreachable, 9 * time.Second, downReply},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, c.mode, c.mta)
				if c.set != nil {
					c.set(s)
				}
				conn := s.connect()
				defer func() { conn.Close(); s.close() }()
				heard := s.hear(conn)
				s.playing.Go(func() {
					io.WriteString(conn, c.before)
					time.Sleep(21 * time.Second)
					io.WriteString(conn, c.later)
				})
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				start := time.Now()
				err := s.server.Shutdown(ctx)
				took := time.Since(start)
				if took < c.took || took > c.took+2*time.Second || (err != nil) != (c.took == time.Minute) {
					t.Errorf("took %v: %v, want %v", took, err, c.took)
				}
				r := <-s.records
				if said := <-heard; r.Outcome != c.outcome || !strings.HasSuffix(said, c.said) {
					t.Errorf("%s: %v; heard %q, want the end %q", r.Outcome, r.Err, said, c.said)
				}
			})
		})
	}
}

// A drain that has taken too long reaches a session that was in a dial, too:
// it must not go on to wait for a greeting.
func TestAbortInDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, nil)
		s.dial = func(context.Context) (net.Conn, error) {
			time.Sleep(9 * time.Second)
			ours, theirs := net.Pipe()
			s.playing.Go(func() { io.Copy(io.Discard, theirs); theirs.Close() })
			return ours, nil
		}
		c := s.connect()
		defer func() { c.Close(); s.close() }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.server.Shutdown(ctx); err == nil {
			t.Error("the session is over though it dials")
		}
		if r := <-s.records; r.Outcome != Shutdown || r.Duration > 10*time.Second {
			t.Errorf("%s after %v: %v", r.Outcome, r.Duration, r.Err)
		}
	})
}

// What a backend says as it leaves is the operator's only clue.
func TestGoodbyeIsQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, script(answers{0, "421-4.3.0 bye\r\n421 4.3.0 disk full\r\n"}))
		c := s.connect()
		defer func() { c.Close(); s.close() }()
		s.hear(c)
		io.WriteString(c, "NOOP\r\n")
		if r := <-s.records; r.Outcome != BackendClosed || r.Err.Error() != `the backend said "421 4.3.0 disk full" and left` {
			t.Errorf("%s: %v", r.Outcome, r.Err)
		}
	})
}

// A drain that has taken too long ends a dial, so that its session is on record
// before the process has ended. Nothing is said against the server.
func TestAbortEndsADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, nil)
		blackHole(s)
		c := s.connect()
		defer func() { c.Close(); s.close() }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := s.server.Shutdown(ctx); err == nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if r := <-s.records; r.Outcome != Shutdown || !errors.Is(r.Err, errCutOff) || r.Duration != 2*time.Second {
			t.Errorf("%s after %v: %v", r.Outcome, r.Duration, r.Err)
		}
		if b := s.settings.Listeners[0].Backend; !b.Up() || b.State()[0].Known {
			t.Errorf("%+v", b.State())
		}
	})
}
