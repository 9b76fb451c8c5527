package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"smtpseal/proxy/backend"
)

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// A session keeps what it was born with: names, limits, times, backend.
func TestSessionsKeepTheirSettings(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, StartTLS, nil)
		defer s.close()
		old := s.connect()
		expect(t, old, "220 mail.example.org ESMTP\r\n")
		s.apply(func(now *Settings) {
			now.Hostname, now.Timeouts.Cleartext = "new.example.org", time.Minute
			now.Listeners[0].Name, now.Listeners[0].Mode = "renamed", Opportunistic
			now.Listeners[0].Backend = &backend.Backend{Name: "other", Servers: []backend.Server{{Network: "tcp", Addr: "other:25"}}, Dialer: s}
			s.mta = agreeable
		})
		young := s.connect()
		expect(t, young, "220 mta\r\n")
		ask(t, old, "HELO client\r\n", "250 mail.example.org\r\n")
		heard := s.hear(old)
		if r := <-s.records; r.Listener != "test" || r.Outcome != ClientTimeout || r.Duration < 30*time.Second || r.Duration > 40*time.Second {
			t.Errorf("the old session: %s on %s after %v", r.Outcome, r.Listener, r.Duration)
		}
		if said := <-heard; said != timeoutReply {
			t.Errorf("the old session hears %q", said)
		}
		ask(t, young, "QUIT\r\n", "221 bye\r\n")
		if r := <-s.records; r.Listener != "renamed" || r.Backend != "other:25" {
			t.Errorf("the young session: %s to %s", r.Listener, r.Backend)
		}
		old.Close()
		young.Close()
	})
}

// What is gone is closed and lets its sessions live; what is kept is not
// touched; what is new is served.
func TestListenersComeAndGo(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, agreeable)
		defer s.close()
		first, second := s.listener, newPipeListener()
		old := s.connect()
		expect(t, old, "220 mta\r\n")

		s.apply(func(now *Settings) {
			added := now.Listeners[0]
			added.Name, added.Net = "second", second
			now.Listeners = append(now.Listeners, added)
		})
		if first.closed() || second.closed() {
			t.Fatal("a listener that is served was closed")
		}
		s.listener = second
		young := s.connect()
		expect(t, young, "220 mta\r\n")

		s.apply(func(now *Settings) { now.Listeners = now.Listeners[1:] })
		synctest.Wait()
		if !first.closed() || second.closed() {
			t.Errorf("closed: %v, %v", first.closed(), second.closed())
		}
		if n := s.server.Sessions(); n != 2 {
			t.Errorf("%d sessions", n)
		}
		for _, c := range []net.Conn{old, young} {
			ask(t, c, "QUIT\r\n", "221 bye\r\n")
			if r := <-s.records; r.Outcome != Completed {
				t.Errorf("%s on %s", r.Outcome, r.Listener)
			}
			c.Close()
		}
	})
}

// On an error nothing has changed, and what is new is still the caller's.
func TestApplyThatFails(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, agreeable)
		kept, offered := s.settings.Listeners[0], newPipeListener()
		twice := Listener{Name: "twice", Net: offered, TLS: kept.TLS, Backend: kept.Backend}
		err := s.server.Apply(Settings{Hostname: "new.example.org", Timeouts: rigTimeouts, Listeners: []Listener{twice, twice}})
		if err == nil || offered.closed() || s.listener.closed() {
			t.Fatalf("%v; closed: %v, %v", err, offered.closed(), s.listener.closed())
		}
		c := s.connect()
		expect(t, c, "220 mta\r\n")
		heard := s.hear(c)
		s.close()
		if said := <-heard; !strings.Contains(said, " mail.example.org ") {
			t.Errorf("served with what was refused: %q", said)
		}
		c.Close()
		if err := s.server.Apply(Settings{Listeners: []Listener{{Name: "late", Net: offered}}}); err == nil || offered.closed() || !s.listener.closed() {
			t.Errorf("after Shutdown: %v; closed: %v, %v", err, offered.closed(), s.listener.closed())
		}
	})
}

// Counts are over all generations: a reload must not double what a client has.
func TestLimitsOverGenerations(t *testing.T) {
	testPair()
	for _, limits := range []Limits{{Sessions: 2}, {PerClient: 2}} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Opportunistic, agreeable)
			defer s.close()
			s.apply(func(now *Settings) { now.Limits = limits })
			var held []net.Conn
			for range 2 {
				c := s.connect()
				s.hear(c)
				held = append(held, c)
				synctest.Wait()
				s.apply(func(now *Settings) { now.Hostname += "x" })
			}
			c := s.connect()
			<-s.hear(c)
			if r := <-s.records; r.Outcome != Refused {
				t.Errorf("%+v: %s", limits, r.Outcome)
			}
			c.Close()
			s.apply(func(now *Settings) { now.Limits = Limits{} })
			held = append(held, s.connect())
			expect(t, held[2], "220 mta\r\n")
			for _, c := range held {
				c.Close()
			}
		})
	}
}

// A turnstile is new only if its size is: handshakes of two would compute
// beside each other.
func TestTurnstileOverGenerations(t *testing.T) {
	s := &Server{}
	var last *turnstile
	for _, c := range []struct {
		places int
		kept   bool
	}{{3, false}, {3, true}, {4, false}, {0, false}, {0, true}} {
		if err := s.Apply(Settings{Hostname: "a", Limits: Limits{Handshakes: c.places}}); err != nil {
			t.Fatal(err)
		}
		now := s.settings.handshakes
		if (now == last) != c.kept || c.places != 0 && cap(now.free) != c.places || cap(now.free) == 0 {
			t.Errorf("%d places: kept %v, has %d", c.places, now == last, cap(now.free))
		}
		last = now
	}
}

// A storm of changes under sessions that come all the time: none is refused,
// none is cut, and a listener that is kept is kept.
func TestApplyUnderLoad(t *testing.T) {
	r := newRig(t, rigConfig{mode: Implicit})
	waiting := settled(t, r)
	var playing, clients sync.WaitGroup
	over := make(chan struct{})
	playing.Go(func() {
		for {
			select {
			case c := <-r.backends:
				playing.Go(func() { echo(c) })
			case <-over:
				return
			}
		}
	})
	var served atomic.Int32
	for range 4 {
		clients.Go(func() {
			b := make([]byte, 100)
			for range 25 {
				raw, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Errorf("refused: %v", err)
					return
				}
				c := tls.Client(raw, r.clientTLS)
				c.SetDeadline(time.Now().Add(time.Minute))
				_, err = io.ReadFull(c, b[:len("220 mta\r\n")])
				if noop(c, b); err != nil || string(b[:3]) != "250" {
					t.Errorf("cut: %v, heard %q", err, b)
				} else {
					served.Add(1)
				}
				raw.Close()
			}
		})
	}
	r.server.mu.Lock()
	settings := r.server.settings.Settings
	r.server.mu.Unlock()
	passing := func() (n int) {
		for ; served.Load() < 100 && !t.Failed(); n++ {
			next := settings
			next.Limits.Handshakes = 2 + n%3
			extra := settings.Listeners[0]
			extra.Net = r.listen()
			next.Listeners = []Listener{settings.Listeners[0], extra}
			if err := r.server.Apply(next); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond) // as often as a machine can, but not all the time of it
		}
		return n
	}
	t.Logf("%d changes under %d sessions", passing(), served.Load())
	clients.Wait()
	close(over)
	if err := r.server.Apply(settings); err != nil {
		t.Error(err)
	}
	waiting()
	playing.Wait()
}

// Who looks from outside sees where each session stands.
func TestLive(t *testing.T) {
	testPair()
	for _, c := range []struct {
		name  string
		mode  Mode
		mta   func(*stage, net.Conn)
		set   func(*stage)
		said  string
		phase Phase
	}{
		{"a PROXY header is awaited", StartTLS, nil, trust, "", PhaseAccept},
		{"STARTTLS is awaited", StartTLS, nil, nil, "", PhaseCleartext},
		{"a hello is awaited", Implicit, nil, nil, "", PhaseHandshake},
		{"a dial", Opportunistic, nil, blackHole, "", PhaseDial},
		{"a greeting is awaited", Opportunistic, func(_ *stage, c net.Conn) { io.Copy(io.Discard, c) }, nil, "", PhaseGreeting},
		{"idle", Opportunistic, agreeable, nil, "NOOP\r\n", PhaseCommand},
		{"a reply is awaited", Opportunistic, script(), nil, "NOOP\r\n", PhaseReply},
		{"an AUTH line is awaited", Opportunistic, script(answers{0, "334 go on\r\n"}), nil, "X-LOGIN\r\n", PhaseAuth},
		{"a message is awaited", Opportunistic, agreeable, nil, "DATA\r\n", PhaseBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, c.mode, c.mta)
				if c.set != nil {
					c.set(s)
				}
				var conns []net.Conn
				for range 2 {
					conn := s.connect()
					s.hear(conn)
					if c.said != "" { // a pipe waits for a reader even of nothing
						io.WriteString(conn, c.said)
					}
					conns = append(conns, conn)
				}
				synctest.Wait()
				live := s.server.Live()
				if len(live) != 1 || live[LiveKey{"test", c.phase}] != 2 {
					t.Errorf("%v, want two at %s", live, c.phase)
				}
				for _, conn := range conns {
					conn.Close()
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				s.server.Shutdown(ctx)
				s.close()
				if live := s.server.Live(); len(live) != 0 {
					t.Errorf("%v is left", live)
				}
			})
		})
	}
}
