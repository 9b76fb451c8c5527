package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func down(listener string, at int) *Record {
	return &Record{Session: fmt.Sprint(at), Listener: listener, Client: netip.MustParseAddrPort("203.0.113.7:5000"), Phase: PhaseDial,
		Outcome: BackendUnreachable, Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED), Start: time.Unix(int64(at), 0), Duration: time.Second}
}

// Failures of a kind are one, told by the last of them; what did not fail is
// not told.
func TestFailuresAreFolded(t *testing.T) {
	var f Failures
	if got := f.Last(); got == nil || len(got) != 0 {
		t.Errorf("%v of no sessions", got)
	}
	for at := range 5 {
		f.SessionEnded(down("a", at))
		f.SessionEnded(&Record{Outcome: Completed})
		f.SessionEnded(&Record{Outcome: ClientClosed})
		f.SessionEnded(&Record{Outcome: Shutdown, Err: errCutOff})
	}
	f.SessionEnded(down("b", 5))
	f.SessionEnded(&Record{Listener: "a", Phase: PhaseDial, Outcome: BackendUnreachable, Err: syscall.ENOENT})
	got := f.Last()
	if len(got) != 3 || got[1].Listener != "b" {
		t.Fatalf("%+v", got)
	}
	want := Failure{Time: time.Unix(5, 0), Count: 5, Session: "4", Listener: "a", Client: "203.0.113.7:5000", Phase: "dial", Outcome: "backend_unreachable",
		Error: "dial: connection refused", Hint: down("a", 0).Hint()}
	if got[2] != want || want.Hint == "" {
		t.Errorf("%+v\nwant %+v", got[2], want)
	}
}

// noise is the i-th kind of what the Internet does all day long.
func noise(i int) *Record {
	return &Record{Listener: fmt.Sprint(i), Phase: PhaseHandshake, Outcome: TLSFailed, Violation: wrongMode, Err: errors.New("no TLS")}
}

// The Internet's noise, in however many kinds, flushes no real failure out.
func TestNoiseMakesRoom(t *testing.T) {
	var f Failures
	f.SessionEnded(down("mx", 0))
	for i := range 100 {
		f.SessionEnded(noise(i))
	}
	got := f.Last()
	if len(got) != maxFailures || got[0].Listener != "99" || got[maxFailures-1].Listener != "mx" || got[maxFailures-2].Listener != "91" {
		t.Errorf("%+v", got)
	}
	for i := range maxFailures - 1 {
		f.SessionEnded(down(fmt.Sprint(i), i))
	}
	f.SessionEnded(noise(100)) // all others are real now
	f.SessionEnded(down("mx", 1))
	got = f.Last()
	if len(got) != maxFailures || got[0].Listener != "mx" || got[0].Count != 2 || got[1].Listener != "8" || got[maxFailures-1].Listener != "0" {
		t.Errorf("%+v", got)
	}
	f.SessionEnded(down("new", 2))
	if got = f.Last(); got[0].Listener != "new" || got[maxFailures-1].Listener != "1" {
		t.Errorf("what was seen longest ago does not leave: %+v", got)
	}
}
