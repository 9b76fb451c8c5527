package proxy

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
)

// A connection may be accepted at the very moment when a drain begins. It is in
// nobody else's queue any more, so its client must be told to come again: cut
// off, it would be the one that an upgrade has refused.
func TestAcceptedWhenADrainBegins(t *testing.T) {
	testPair()
	const downing = "421 4.3.2 mail.example.org Service shutting down, try again later\r\n"
	for mode, want := range map[Mode]string{
		Implicit: downing, StartTLS: "220 mail.example.org ESMTP\r\n" + downing, Opportunistic: downing,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, mode, agreeable)
			defer s.close()
			at := s.server.doors[s.listener].now.Load()
			s.server.Shutdown(context.Background())
			late := func() net.Conn {
				ours, theirs := net.Pipe()
				s.server.start(at, pipe{theirs, serverAddr, clientAddr})
				return pipe{ours, clientAddr, serverAddr}
			}
			c := late()
			if mode == Implicit {
				c = s.seal(c)
			}
			if got := <-s.hear(c); got != want {
				t.Errorf("mode %v: heard %q, want %q", mode, got, want)
			}
			c.Close()
			if r := <-s.records; r.Outcome != Shutdown {
				t.Errorf("mode %v: %s", mode, r.Outcome)
			}
			synctest.Wait()
			s.server.cut = true // when the time of the drain is over, too
			if got := <-s.hear(late()); got != "" || s.server.Sessions() != 0 {
				t.Errorf("mode %v: heard %q, %d sessions", mode, got, s.server.Sessions())
			}
		})
	}
}
