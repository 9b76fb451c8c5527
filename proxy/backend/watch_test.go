package backend

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A site is a Dialer of pipes to servers that behave as they are told. An
// unknown one behaves well.
type site struct {
	mu       sync.Mutex
	manners  map[string]manner
	dialed   map[string][]time.Time
	said     []string // to all servers, without line ends
	sessions sync.WaitGroup
}

// A manner is what a server does with a connection; nil refuses it.
type manner func(conn net.Conn, say func(format string, args ...any), hear func() string)

func (n *site) set(addr string, m manner) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.manners == nil {
		n.manners = map[string]manner{}
	}
	n.manners[addr] = m
}

func (n *site) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	if n.dialed == nil {
		n.dialed = map[string][]time.Time{}
	}
	n.dialed[addr] = append(n.dialed[addr], time.Now())
	m, ok := n.manners[addr]
	n.mu.Unlock()
	switch {
	case addr == "hole":
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	case !ok:
		m = well
	case m == nil:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	n.sessions.Go(func() {
		defer theirs.Close()
		in := bufio.NewReader(theirs)
		m(theirs, func(format string, args ...any) { fmt.Fprintf(theirs, format, args...) }, func() string {
			line, _ := in.ReadString('\n')
			n.mu.Lock()
			defer n.mu.Unlock()
			line = strings.TrimSuffix(line, "\r\n")
			n.said = append(n.said, line)
			return line
		})
	})
	return ours, nil
}

// dials returns when a server was dialled since this was asked last.
func (n *site) dials(addr string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.dialed[addr]
	delete(n.dialed, addr)
	return all
}

func well(_ net.Conn, say func(string, ...any), hear func() string) {
	say("220 mta.example.test ESMTP\r\n")
	for {
		switch line := hear(); {
		case line == "":
			return
		case line == "QUIT":
			say("221 2.0.0 Bye\r\n")
			return
		default:
			say("250-mta.example.test\r\n250 PIPELINING\r\n")
		}
	}
}

// says is a server that greets so, and with 221 to all else.
func says(greeting string) manner {
	return func(_ net.Conn, say func(string, ...any), hear func() string) {
		say("%s", greeting)
		for hear() != "" {
			say("221 2.0.0 Bye\r\n")
		}
	}
}

// silent reads, and never says a word.
func silent(_ net.Conn, _ func(string, ...any), hear func() string) {
	for hear() != "" {
	}
}

// A watched is a backend under Watch, with what Watch has told.
type watched struct {
	*Backend
	t      *testing.T
	cancel context.CancelFunc
	over   chan struct{}
	mu     sync.Mutex
	told   []string
}

func watch(t *testing.T, b *Backend) *watched {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watched{Backend: b, t: t, cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(w.over)
		b.Watch(ctx, func(s ServerState) {
			w.mu.Lock()
			defer w.mu.Unlock()
			way := "down"
			if s.Up {
				way = "up"
			}
			w.told = append(w.told, s.Server.Addr+" "+way)
		})
	}()
	synctest.Wait()
	return w
}

// end ends the watch and waits for it.
func (w *watched) end() {
	w.cancel()
	<-w.over
}

// tells expects what was told since this was asked last, in any order.
func (w *watched) tells(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.told)
	slices.Sort(want)
	if !slices.Equal(w.told, want) {
		w.t.Errorf("told %v, want %v", w.told, want)
	}
	w.told = nil
}

// half a minute, as the configuration has it.
var usual = Health{Interval: 30 * time.Second, Timeout: 5 * time.Second, Fall: 3, Rise: 2}

// gaps expects the time between dials to be as long, less a tenth at most.
func gaps(t *testing.T, from time.Time, dials []time.Time, want ...time.Duration) {
	t.Helper()
	if len(dials) != len(want) {
		t.Fatalf("%d dials, want %d", len(dials), len(want))
	}
	for i, at := range dials {
		if gap := at.Sub(from); gap > want[i] || gap < want[i]*9/10 {
			t.Errorf("dial %d after %v, want %v", i+1, gap, want[i])
		}
		from = at
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		n := &site{}
		start := time.Now()
		b := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual, Helo: "mail.example.org"}
		if state := b.State()[0]; !b.Up() || state.Known || !state.Since.IsZero() {
			t.Errorf("before any check: %+v", state)
		}
		w := watch(t, b)
		if state := b.State()[0]; !state.Known || state.Since != start {
			t.Errorf("%+v is not known at once", state)
		}
		w.tells("one up")
		time.Sleep(100 * s)
		all := n.dials("one")
		if want := []string{"EHLO mail.example.org", "QUIT"}; len(n.said) != 2*len(all) || !slices.Equal(n.said[:2], want) {
			t.Errorf("said %q in %d checks", n.said, len(all))
		}
		gaps(t, start, all[:4], 0, 30*s, 30*s, 30*s)
		w.tells()

		last := all[len(all)-1]
		n.set("one", nil) // stopped: sooner, and when it is down as well
		time.Sleep(36*s - time.Since(last))
		all = n.dials("one")
		gaps(t, last, all[:3], 30*s, 3*s, 3*s)
		w.tells("one down")
		if state := b.State()[0]; b.Up() || state.Since != all[2] || state.Error != "dial tcp: connection refused" || state.Hint == "" {
			t.Errorf("%+v", state)
		}
		last = all[len(all)-1] // nobody hears of these checks, so they go on
		time.Sleep(60 * s)
		gaps(t, last, n.dials("one")[:19], slices.Repeat([]time.Duration{3 * s}, 19)...)
		n.set("one", well) // started again
		time.Sleep(7 * s)
		w.tells("one up")
		if state := b.State()[0]; !b.Up() || state.Error != "" || state.Hint != "" {
			t.Errorf("%+v", state)
		}
		w.end()
	})
}

func TestSoon(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{
		time.Hour: 6 * time.Minute, 30 * time.Second: 3 * time.Second, 10 * time.Second: time.Second,
		5 * time.Second: time.Second, time.Second: time.Second, 20 * time.Millisecond: 20 * time.Millisecond,
	} {
		if got := (Health{Interval: interval}).soon(&state{}); got != want {
			t.Errorf("%v of %v, want %v", got, interval, want)
		}
	}
}

// A server that answers, but badly, may write a warning for each check: the
// pace slows down to the ordinary one while that goes on.
func TestWatchIsQuietWithWhoIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		n := &site{}
		n.set("one", says("421 4.3.2 busy\r\n"))
		b := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual}
		start := time.Now()
		w := watch(t, b)
		w.tells("one down") // the first result decides
		time.Sleep(150 * s)
		all := n.dials("one")
		gaps(t, start, all[:7], 0, 3*s, 6*s, 12*s, 24*s, 30*s, 30*s)
		last := all[len(all)-1]
		n.set("one", well)
		time.Sleep(34 * s)
		gaps(t, last, n.dials("one")[:2], 30*s, s)
		w.tells("one up")

		// That pace is forgotten with it, and by a session that succeeds.
		n.set("one", says("421 4.3.2 busy\r\n"))
		b.Served(b.Servers[0]) // no check for a while
		time.Sleep(5 * s)
		last = time.Now()
		n.dials("one")
		for range 3 {
			b.Failed(b.Servers[0], errSeen)
		}
		time.Sleep(80 * s)
		gaps(t, last, n.dials("one"), 0, 3*s, 6*s, 12*s, 24*s, 30*s)
		w.tells("one down")
		n.set("one", well)
		b.Served(b.Servers[0])
		w.tells("one up")
		if all := n.dials("one"); len(all) != 1 {
			t.Errorf("%d checks", len(all))
		}
		w.end()
	})
}

// Real sessions replace checks while they succeed, and bring them forward when
// they do not.
func TestWatchLeavesItToSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &site{}
		b := &Backend{Name: "mta", Servers: servers("one two"), Dialer: n, Health: usual}
		w := watch(t, b)
		w.tells("one up", "two up")
		n.dials("one")
		for range 60 {
			time.Sleep(20 * time.Second)
			b.Served(b.Servers[0])
		}
		if all := n.dials("one"); len(all) > 0 {
			t.Errorf("%d checks beside sessions that succeed", len(all))
		}
		if all := n.dials("two"); len(all) < 40 {
			t.Errorf("%d checks of another server", len(all))
		}
		served := time.Now()
		time.Sleep(35 * time.Second)
		gaps(t, served, n.dials("one"), 30*time.Second)

		time.Sleep(10 * time.Second)
		n.set("one", nil)
		b.Failed(b.Servers[0], errSeen)
		now := time.Now()
		synctest.Wait()
		gaps(t, now, n.dials("one"), 0)
		time.Sleep(3 * time.Second)
		w.tells("one down") // once by a session, twice by checks
		b.Served(b.Servers[0])
		w.tells()
		b.Served(b.Servers[0]) // as the last resort
		w.tells("one up")
		w.end()
	})
}

func TestWatchTellsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &site{}
		health := usual
		health.Fall, health.Rise = 1, 1
		b := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: health}
		ctx, cancel := context.WithCancel(t.Context())
		var told []bool
		over := make(chan struct{})
		go func() {
			defer close(over)
			b.Watch(ctx, func(s ServerState) {
				told = append(told, s.Up)
				time.Sleep(time.Minute) // as slow as may be
			})
		}()
		synctest.Wait()
		for range 1000 {
			b.Failed(b.Servers[0], errSeen)
			b.Served(b.Servers[0])
			b.Failed(b.Servers[0], errSeen)
		}
		n.set("one", nil)
		time.Sleep(time.Hour)
		cancel()
		<-over
		if !slices.Equal(told, []bool{true, false}) {
			t.Errorf("told %v", told)
		}
	})
}

// Many servers, and many proxies before one, are not asked in step.
func TestWatchNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &site{}
		b := &Backend{Name: "mta", Dialer: n, Health: usual}
		for i := range 20 {
			b.Servers = append(b.Servers, servers(fmt.Sprint("server", i))...)
		}
		w := watch(t, b)
		time.Sleep(time.Hour)
		w.end()
		last := map[time.Time]bool{}
		for _, server := range b.Servers {
			all := n.dials(server.Addr)
			last[all[len(all)-1]] = true
			if rate := len(all); rate < 119 || rate > 135 {
				t.Errorf("%s: %d checks in an hour", server, rate)
			}
		}
		if len(last) != len(b.Servers) {
			t.Errorf("%d times for %d servers", len(last), len(b.Servers))
		}
	})
}

// The timeout is for the whole of a check, however its server drags it out.
func TestCheckEndsInTime(t *testing.T) {
	for name, m := range map[string]manner{
		"hole":          nil,
		"silent":        silent,
		"octets":        again("2", "2"),
		"lines":         again("", "220-a\r\n"),
		"half a line":   says("220 a"),
		"half a reply":  says("220-a\r\n"),
		"lines at EHLO": again("220 a\r\n", "250-a\r\n"),
		"silent at EHLO": func(_ net.Conn, say func(string, ...any), hear func() string) {
			time.Sleep(3 * time.Second)
			say("220 a\r\n")
			silent(nil, say, hear)
		},
		"never reads": func(_ net.Conn, say func(string, ...any), _ func() string) {
			say("220 a\r\n")
			time.Sleep(time.Minute)
		},
		"each answer late": func(_ net.Conn, say func(string, ...any), hear func() string) {
			for _, words := range []string{"220 a\r\n", "250 a\r\n", "221 a\r\n"} {
				time.Sleep(2 * time.Second)
				say("%s", words)
				hear()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &site{}
				n.set(name, m)
				b := &Backend{Name: "mta", Servers: []Server{{"tcp", name}}, Dialer: n, Health: usual}
				start := time.Now()
				err := b.check(t.Context(), b.Servers[0])
				if took := time.Since(start); took != usual.Timeout || err == nil || b.hint(err) == "" {
					t.Errorf("took %v: %v (%s)", took, err, b.hint(err))
				}
				n.sessions.Wait()
			})
		})
	}
}

// again is a server that, after its first words, says the same each second.
func again(first, words string) manner {
	return func(conn net.Conn, say func(string, ...any), hear func() string) {
		say("%s", first)
		if first != "" && first[len(first)-1] == '\n' {
			hear()
		}
		for {
			if _, err := conn.Write([]byte(words)); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
}

// What is under way when Watch ends has a moment to say QUIT, and then nothing
// is left: synctest finds goroutines, the pipe's other end a connection.
func TestWatchEnds(t *testing.T) {
	slow := func(pause time.Duration) manner {
		return func(_ net.Conn, say func(string, ...any), hear func() string) {
			time.Sleep(pause)
			well(nil, say, hear)
		}
	}
	for _, c := range []struct {
		name string
		manner
		after, within time.Duration
		quit          bool
	}{
		{"idle", well, time.Second, 0, true},
		{"hole", nil, time.Second, 0, false},
		{"silent", silent, time.Second, farewell, false},
		{"nearly done", slow(1100 * time.Millisecond), time.Second, 100 * time.Millisecond, true},
		{"late", slow(4 * time.Second), time.Second, farewell, false},
		{"refused", nil, time.Second, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &site{}
				n.set(c.name, c.manner)
				b := &Backend{Name: "mta", Servers: []Server{{"tcp", c.name}}, Dialer: n, Health: usual}
				w := watch(t, b)
				time.Sleep(c.after)
				start := time.Now()
				known := b.State()[0]
				w.end()
				if took := time.Since(start); took != c.within {
					t.Errorf("took %v, want %v", took, c.within)
				}
				if got := b.State()[0]; got != known {
					t.Errorf("a check that was cut short changed %+v to %+v", known, got)
				}
				n.sessions.Wait()
				if got := slices.Contains(n.said, "QUIT"); got != c.quit {
					t.Errorf("said %q", n.said)
				}
			})
		})
	}
}

// A reload forgets nothing, asks only those that are down, and tells nothing twice.
func TestInherit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &site{}
		n.set("two", nil)
		make := func(addrs string, v Version) *Backend {
			return &Backend{Name: "mta", Servers: servers(addrs), Dialer: n, Health: usual, Proxy: v}
		}
		old := make("one two three", Off)
		w := watch(t, old)
		w.tells("one up", "three up", "two down")
		n.set("one", nil)
		time.Sleep(10 * time.Second)
		old.Failed(old.Servers[0], errSeen) // checked at once: two against one
		synctest.Wait()
		w.end()
		before := old.State()

		b := make("four three two one", Off)
		b.Inherit(old)
		b.Inherit(nil)
		after := b.State()
		if after[0].Known || after[1] != before[2] || after[2] != before[1] || after[3] != before[0] {
			t.Errorf("%+v became %+v", before, after)
		}
		if got, want := b.candidates(), servers("four three one two"); !slices.Equal(got, want) {
			t.Errorf("tried in the order %v", got)
		}
		for _, addr := range []string{"one", "two", "three"} {
			n.dials(addr)
		}
		w = watch(t, b)
		w.tells("four up")
		for addr, want := range map[string]int{"one": 0, "two": 1, "three": 0} { // a reload may have mended who is down
			if all := n.dials(addr); len(all) != want {
				t.Errorf("%s was asked %d times, want %d", addr, len(all), want)
			}
		}
		time.Sleep(3 * time.Second)
		w.tells("one down") // the third failure
		w.end()

		// Greeted in another way, all is unknown and asked at once.
		anew := make("one two three", V1)
		anew.Inherit(b)
		for _, state := range anew.State() {
			if state.Known || !state.Up {
				t.Errorf("%+v", state)
			}
		}

		// What could not be told before the end is told by the next.
		last := make("one", Off)
		last.Inherit(b)
		last.Served(last.Servers[0])
		last.Served(last.Servers[0])
		next := make("one", Off)
		next.Inherit(last)
		w = watch(t, next)
		w.tells("one up")
		w.end()
	})
}

// Whoever has mended a server reloads, and need not wait for the next check.
func TestReloadAsksWhoIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		n := &site{}
		n.set("one", says("421 4.3.2 busy\r\n"))
		old := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual}
		w := watch(t, old)
		time.Sleep(100 * s) // by now it is asked each half minute
		w.tells("one down")
		w.end()
		n.dials("one")

		b := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual}
		b.Inherit(old)
		start := time.Now()
		w = watch(t, b)
		time.Sleep(20 * s)
		gaps(t, start, n.dials("one")[:3], 0, 3*s, 6*s)
		n.set("one", well)
		w.end()

		mended := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual}
		mended.Inherit(b)
		w = watch(t, mended)
		if state := mended.State()[0]; state.Up || state.Error != "answers again: 1 of 2 checks" {
			t.Errorf("%+v", state)
		}
		time.Sleep(s)
		w.tells("one up")
		w.end()
	})
}

// A reload storm does not multiply the checks.
func TestInheritStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &site{}
		var old *Backend
		for range 120 {
			b := &Backend{Name: "mta", Servers: servers("one"), Dialer: n, Health: usual}
			b.Inherit(old)
			w := watch(t, b)
			time.Sleep(time.Second)
			w.end()
			old = b
		}
		if all := n.dials("one"); len(all) < 4 || len(all) > 5 {
			t.Errorf("%d checks in two minutes", len(all))
		}
	})
}
