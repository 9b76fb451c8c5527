package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var errSeen = errors.New("greeting: 421 4.3.2 busy")

// slowUp is what fall and rise mean, in so many words: after each result, is
// the server up? The first result decides.
func slowUp(results string, fall, rise int) (all []bool) {
	for i := range results {
		seen := results[:i+1]
		switch {
		case i == 0:
			all = append(all, seen == "g")
		case all[i-1]:
			since := lastChange(all)
			run := seen[max(since, 1):]
			all = append(all, !(len(run) >= fall && strings.HasSuffix(run, strings.Repeat("b", fall))))
		default:
			run := seen[max(lastChange(all), 1):]
			all = append(all, len(run) >= rise && strings.HasSuffix(run, strings.Repeat("g", rise)))
		}
	}
	return all
}

// lastChange is the number of results up to the one that made the last change.
func lastChange(all []bool) int {
	for i := len(all) - 1; i > 0; i-- {
		if all[i] != all[i-1] {
			return i + 1
		}
	}
	return 1
}

// Every sequence of results, against the slow definition.
func TestFallAndRise(t *testing.T) {
	const longest = 9
	for fall := 1; fall <= 4; fall++ {
		for rise := 1; rise <= 3; rise++ {
			for bits := range 1 << longest {
				b := &Backend{Servers: servers("one"), Health: Health{Interval: time.Minute, Fall: fall, Rise: rise}}
				var results strings.Builder
				var got []bool
				for i := range longest {
					if bits>>i&1 == 1 {
						results.WriteByte('g')
						b.Served(b.Servers[0])
					} else {
						results.WriteByte('b')
						b.Failed(b.Servers[0], errSeen)
					}
					state := b.State()[0]
					got = append(got, state.Up)
					if !state.Known || state.Up != b.Up() || !state.Up && state.Error == "" || state.Checked.IsZero() || state.Since.After(state.Checked) {
						t.Fatalf("after %s: %+v", results.String(), state)
					}
					if good := bits>>i&1 == 1; state.Up && (state.Error == "") != good {
						t.Fatalf("after %s: error %q", results.String(), state.Error)
					}
				}
				if want := slowUp(results.String(), fall, rise); !slices.Equal(got, want) {
					t.Fatalf("fall %d, rise %d, %s: %v, want %v", fall, rise, results.String(), got, want)
				}
			}
		}
	}
}

// After a repair nobody reads the old error beside a check that was good.
func TestAnswersAgain(t *testing.T) {
	b := &Backend{Name: "mta", Servers: servers("one"), Health: Health{Interval: time.Minute, Fall: 1, Rise: 3}}
	check := &fault{"greeting", errCut, "advice"}
	for i, step := range []struct {
		err         error // nil: it serves
		error, hint string
	}{
		{check, "greeting: the connection was closed", "advice"},
		{nil, "answers again: 1 of 3 checks", "it is used again when 3 in a row are good, within seconds"},
		{nil, "answers again: 2 of 3 checks", "it is used again when 3 in a row are good, within seconds"},
		{errSeen, errSeen.Error(), ""},
		{check, "greeting: the connection was closed", "advice"},
		{errSeen, "greeting: the connection was closed", "advice"}, // which says more
		{&fault{"EHLO", errCut, "other advice"}, "EHLO: the connection was closed", "other advice"},
		{nil, "answers again: 1 of 3 checks", "it is used again when 3 in a row are good, within seconds"},
		{nil, "answers again: 2 of 3 checks", "it is used again when 3 in a row are good, within seconds"},
		{nil, "", ""},
		{errSeen, errSeen.Error(), ""},
	} {
		if step.err == nil {
			b.Served(b.Servers[0])
		} else {
			b.Failed(b.Servers[0], step.err)
		}
		if s := b.State()[0]; s.Error != step.error || s.Hint != step.hint {
			t.Errorf("step %d: %q (%s), want %q (%s)", i+1, s.Error, s.Hint, step.error, step.hint)
		}
	}
}

// What stays is the words alone: the failure counts.
func TestPoorerFailuresCount(t *testing.T) {
	b := &Backend{Name: "mta", Servers: servers("one"), Health: Health{Interval: time.Minute, Fall: 2}}
	b.Served(b.Servers[0])
	b.Failed(b.Servers[0], &fault{"greeting", errCut, "advice"})
	b.Failed(b.Servers[0], errSeen)
	if s := b.State()[0]; s.Up || s.Hint != "advice" {
		t.Errorf("%+v", s)
	}
}

func TestHealthDefaults(t *testing.T) {
	if got, want := (Health{Interval: time.Second}).withDefaults(), (Health{time.Second, 5 * time.Second, 3, 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	given := Health{time.Second, time.Second, 1, 1}
	if got := given.withDefaults(); got != given {
		t.Errorf("%+v", got)
	}
}

// Without checks nothing would bring a server up again, so none goes down.
func TestWithoutChecksAllAreUp(t *testing.T) {
	b := &Backend{Servers: servers("dead one")}
	b.Dialer = &network{}
	for range 10 {
		b.Failed(b.Servers[0], errSeen)
	}
	b.Served(b.Servers[0])
	b.Watch(t.Context(), func(ServerState) { t.Error("something changed") }) // returns at once
	want := []ServerState{{Server: b.Servers[0], Up: true}, {Server: b.Servers[1], Up: true}}
	if got := b.State(); !slices.Equal(got, want) || !b.Up() {
		t.Errorf("%+v", got)
	}
	if (&Backend{}).Up() {
		t.Error("a backend without servers is up")
	}
}

func TestOfAStrangeServerNothingIsKept(t *testing.T) {
	b := &Backend{Servers: servers("one"), Health: Health{Interval: time.Second, Fall: 1}}
	b.Served(Server{"tcp", "two"})
	b.Failed(Server{"unix", "one"}, errSeen)
	if got := b.State(); len(got) != 1 || got[0].Known {
		t.Errorf("%+v", got)
	}
}

// What a server says may go into a log and a page, however long it is.
func TestErrorsAreBounded(t *testing.T) {
	b := &Backend{Servers: servers("one"), Health: Health{Interval: time.Second}}
	b.Failed(b.Servers[0], errors.New(strings.Repeat("é\r\n\x1b[31m\u202e", 1000)))
	if got := b.State()[0].Error; len(got) > maxError || strings.ContainsAny(got, "\r\n\x1b\u202e") {
		t.Errorf("%q", got)
	}
}

// In the order of the list, those that are down last: a check may be wrong.
func TestDialTriesWhatIsUpFirst(t *testing.T) {
	for _, c := range []struct{ servers, down, tried string }{
		{"dead1 dead2 dead3", "", "dead1 dead2 dead3"},
		{"dead1 dead2 dead3", "dead1", "dead2 dead3 dead1"},
		{"dead1 dead2 dead3", "dead1 dead2", "dead3 dead1 dead2"},
		{"dead1 dead2 dead3", "dead1 dead2 dead3", "dead1 dead2 dead3"},
		{"dead1 good", "good", "dead1 good"},
		{"good dead1", "good", "dead1 good"},
		{"good1 good2", "good1", "good2"},
		{"good1", "good1", "good1"},
	} {
		n := &network{}
		b := &Backend{Servers: servers(c.servers), Dialer: n, Health: Health{Interval: time.Minute, Fall: 1}}
		for _, down := range servers(c.down) {
			b.Failed(down, errSeen)
		}
		born, err := b.Dial(time.Now().Add(time.Minute), facts("203.0.113.7:5000", ""))
		if got := strings.Join(n.dialed, " "); got != c.tried {
			t.Errorf("%s, down %s: tried %s, want %s", c.servers, c.down, got, c.tried)
		}
		if (err == nil) != strings.Contains(c.tried, "good") {
			t.Error(err)
		}
		if born.Conn != nil {
			born.Conn.Close()
			n.served[0].Close()
		}
	}
}

// A failed dial counts; one for which a session had no time left does not.
func TestDialCountsFailures(t *testing.T) {
	n := &network{}
	b := &Backend{Servers: servers("dead good"), Dialer: n, Health: Health{Interval: time.Minute, Fall: 2}}
	for i := range 3 {
		b.Served(b.Servers[0]) // known to be up
		b.Dial(time.Now().Add(-time.Second), facts("203.0.113.7:5000", ""))
		if s := b.State()[0]; !s.Up || s.Error != "" {
			t.Fatalf("dial %d without time: %+v", i, s)
		}
	}
	for i := range 2 {
		if s := b.State()[0]; !s.Up {
			t.Fatalf("before dial %d: %+v", i, s)
		}
		if _, err := b.Dial(time.Now().Add(time.Minute), facts("203.0.113.7:5000", "")); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.State(); s[0].Up || s[0].Error != "dial tcp dead: connection refused" || !s[1].Up || s[1].Known {
		t.Errorf("%+v", s) // that good could be dialled is not known to be all
	}
	for _, conn := range n.served {
		conn.Close()
	}
}

// A session's way costs no allocation: neither finding the order nor telling
// that a server serves.
func TestHealthOnAMailsWayAllocatesNothing(t *testing.T) {
	b := &Backend{Servers: servers("one two three"), Health: Health{Interval: time.Minute, Fall: 1}}
	b.Failed(b.Servers[0], errSeen)
	for what, f := range map[string]func(){
		"candidates": func() { b.candidates() },
		"Served":     func() { b.Served(b.Servers[2]) },
		"Up":         func() { b.Up() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// For the race detector: all methods at once, from many sides.
func TestHealthFromManySides(t *testing.T) {
	n := &site{}
	n.set("one", well)
	n.set("two", says("421 4.3.2 busy\r\n"))
	health := Health{Interval: time.Millisecond, Timeout: time.Second, Fall: 2}
	b := &Backend{Name: "mta", Servers: servers("one two"), Dialer: n, Health: health}
	next := &Backend{Name: "mta", Servers: servers("two one three"), Dialer: n, Health: health}
	ctx, cancel := context.WithCancel(t.Context())
	var watch, all sync.WaitGroup
	for _, b := range []*Backend{b, next} {
		watch.Go(func() { b.Watch(ctx, func(ServerState) {}) })
	}
	for i := range 8 {
		all.Go(func() {
			for k := range 200 {
				server := b.Servers[(i+k)%2]
				b.Served(server)
				b.Failed(server, fmt.Errorf("greeting: %w", errSeen))
				b.State()
				b.Up()
				if born, err := b.Dial(time.Now().Add(time.Second), facts("203.0.113.7:5000", "")); err == nil {
					born.Conn.Close()
				}
				next.Inherit(b)
				next.candidates()
			}
		})
	}
	all.Wait()
	cancel()
	watch.Wait()
	n.sessions.Wait()
}

func BenchmarkHealth(b *testing.B) {
	backend := &Backend{Servers: servers("one two three"), Health: Health{Interval: time.Minute}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			backend.Served(backend.candidates()[1])
		}
	})
}
