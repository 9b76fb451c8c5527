package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/pebble"
)

// full asks for the long runs, in which the figures are asserted: with a
// binary without the race detector, whose own cost would hide them.
func full() bool { return os.Getenv("SMTPSEAL_LOAD") == "full" }

// Certificates of seconds, a renewal every two, and all the while new clients
// that verify what they get: none of them fails, and no session that was up
// before notices.
func TestRenewalsUnderLoad(t *testing.T) {
	t.Parallel()
	handshakes, workers := 1200, 4
	if full() {
		handshakes, workers = 40000, 8 // some thirty renewals
	}
	r := newLoadRig(t, pebble.Options{Validity: 10 * time.Second})
	long := r.longSessions(10)
	load := r.load(handshakes, workers)
	spans := r.renewals(load, 2*time.Second)
	load.end()
	r.check(load, long)

	distinct := load.serials()
	t.Logf("%d handshakes, %d renewals, %d certificates seen", len(load.samples()), len(spans), distinct)
	if len(spans) < fewestRenewals || distinct < len(spans)/2 {
		t.Errorf("%d renewals and %d certificates seen: the load has not met them", len(spans), distinct)
	}
	report(t, load.samples(), spans)
}

// fewestRenewals is what the load must have met, however fast it is over.
const fewestRenewals = 3

// The CA dies and comes back, has a bad day, counts, and forgets its nonces:
// nobody who sends mail learns of it, and afterwards it goes on.
func TestACAInTroubleUnderLoad(t *testing.T) {
	t.Parallel()
	handshakes, workers, rounds := 800, 4, 1
	if full() {
		handshakes, workers, rounds = 7000, 8, 4
	}
	r := newLoadRig(t, pebble.Options{Validity: 20 * time.Second})
	long := r.longSessions(10)
	load := r.load(handshakes, workers)
	var forgetful atomic.Bool
	r.ca.Hook(badNonces(r.ca, &forgetful))
	for range rounds {
		r.trouble("down", r.down, r.up)
		r.trouble("5xx", r.ca.Answer5xx, r.ca.Heal)
		r.trouble("429", func() { r.ca.Answer429(time.Second) }, r.ca.Heal)
		forgetful.Store(true)
		r.renew()
		forgetful.Store(false)
	}
	load.end()
	r.check(load, long)
	t.Logf("%d handshakes, %d certificates seen, %d renewals, %d failures", len(load.samples()), load.serials(), len(r.renewed()), len(r.failed()))
}

// trouble lasts until an attempt has failed by it, and is over at the next one.
// Both are asked for again and again: what the CA advises must have been heard
// before it falls silent, and a fresh certificate is left alone for two seconds.
func (r loadRig) trouble(name string, begin, end func()) {
	r.t.Helper()
	r.renew()
	r.hup()
	time.Sleep(500 * time.Millisecond)
	before, began := len(r.failed()), time.Now()
	begin()
	until(r.t, "an attempt to fail: "+name, 20*time.Second, func() bool {
		r.hup()
		return len(r.failed()) > before
	})
	end()
	failed := time.Since(began)
	r.renew()
	r.t.Logf("%s: failed within %v, renewed %v later", name, failed, time.Since(began)-failed)
}

// badNonces refuses every second nonce, by chance, while it is told to.
func badNonces(ca *pebble.CA, forgetful *atomic.Bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if forgetful.Load() && q.Method == http.MethodPost && rand.IntN(2) == 0 {
				ca.BadNonces(1)
			}
			next.ServeHTTP(w, q)
		})
	}
}

// A loadRig is a process whose CA wants its certificates renewed at once: each
// HUP makes it look, and order.
type loadRig struct {
	*process
	ca *pebble.CA
}

func newLoadRig(t *testing.T, o pebble.Options) loadRig {
	t.Helper()
	ca := pebble.Start(t, o)
	past := time.Now().Add(-time.Hour)
	ca.SetARI("", pebble.ARI{Start: past, End: past.Add(time.Minute)})
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	s := site{CA: ca, Server: srv.Addr()}
	if full() {
		s.Binary = filepath.Join(t.TempDir(), "smtpseal")
		succeed(t, exec.Command("go", "build", "-o", s.Binary, "smtpseal/cmd/smtpseal"))
	}
	p := s.run(t)
	p.obtained(hostname)
	return loadRig{p, ca}
}

func (r loadRig) down() {
	if err := r.ca.Down(); err != nil {
		r.t.Fatal(err)
	}
}

func (r loadRig) up() {
	if err := r.ca.Up(); err != nil {
		r.t.Fatal(err)
	}
}

// renewed are the log lines of renewals.
func (r loadRig) renewed() []entry { return r.all("certificate renewed") }

// failed are those of attempts that failed.
func (r loadRig) failed() []entry { return r.all(notRenewed) }

// renew asks for a renewal until there is one.
func (r loadRig) renew() {
	r.t.Helper()
	before := len(r.renewed())
	until(r.t, "a renewal", 20*time.Second, func() bool {
		r.hup()
		time.Sleep(200 * time.Millisecond)
		return len(r.renewed()) > before
	})
}

// A span is the time in which something goes on.
type span struct{ from, to time.Time }

func (s span) has(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// renewals asks for one after the other while the load lasts, and returns from
// the request to the new certificate's being served.
func (r loadRig) renewals(l *load, every time.Duration) (spans []span) {
	r.t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		<-tick.C
		select {
		case <-l.done:
			if len(spans) >= fewestRenewals {
				return spans
			}
		default:
		}
		before := len(r.renewed())
		began := time.Now()
		r.hup()
		until(r.t, "a renewal under load", 60*time.Second, func() bool {
			if time.Since(began) > 3*time.Second {
				r.hup() // the first one came while the last certificate was too fresh
			}
			return len(r.renewed()) > before
		})
		done, err := time.Parse(time.RFC3339Nano, r.renewed()[before].text("time"))
		if err != nil {
			r.t.Fatal(err)
		}
		spans = append(spans, span{began, done.Add(100 * time.Millisecond)}) // with the first handshakes of the new one
	}
}

// A longSession is up before the first renewal; one of each kind is in the
// middle of a message.
type longSession struct {
	*client
	inMail bool
}

// longSessions opens so many sessions through each door.
func (r loadRig) longSessions(n int) (all []longSession) {
	r.t.Helper()
	for _, listener := range []string{submissions, submission} {
		for i := range n {
			c := r.open(r.t, listener, "")
			c.greet()
			if i == 0 {
				c.envelope("long@example.test")
				c.Play("> DATA\n<< 354\n> Subject: long\n>> \\r\\nhalf of it")
			}
			all = append(all, longSession{c, i == 0})
		}
	}
	return all
}

// check fails the test for one handshake that failed, and one session that was
// cut.
func (r loadRig) check(l *load, long []longSession) {
	r.t.Helper()
	for i, err := range l.failures() {
		if i == 10 {
			break
		}
		r.t.Errorf("a handshake failed: %v", err)
	}
	for _, c := range long {
		if c.inMail {
			c.Play(">> , and the rest\\r\\n.\\r\\n\n<< 250")
		}
		c.Play("> NOOP\n<< 250")
		c.quit()
	}
	for _, e := range r.all("session closed") {
		if e.text("outcome") != "completed" {
			r.t.Errorf("a session did not end well: %v", e)
			break
		}
	}
}

// report says what handshakes take while a renewal goes on, and else. The
// figure is 1.5 times; a machine that is shared with other tests, the CA and
// the clients among them, is allowed more.
func report(t *testing.T, samples []sample, spans []span) {
	t.Helper()
	var within, beside []time.Duration
	for _, s := range samples {
		if slices.ContainsFunc(spans, func(in span) bool { return in.has(s.at) }) {
			within = append(within, s.took)
		} else {
			beside = append(beside, s.took)
		}
	}
	in, out := centiles(within), centiles(beside)
	t.Logf("handshakes during renewals: %d, %v; else: %d, %v; ratio of p99: %.2f", len(within), in, len(beside), out, float64(in.p99)/float64(out.p99))
	if full() && in.p99 > 3*out.p99+20*time.Millisecond {
		t.Errorf("p99 of handshakes: %v during renewals, %v else", in.p99, out.p99)
	}
}

type centile struct{ p50, p99, max time.Duration }

func (c centile) String() string { return fmt.Sprintf("p50 %v p99 %v max %v", c.p50, c.p99, c.max) }

func centiles(all []time.Duration) (c centile) {
	if len(all) == 0 {
		return c
	}
	slices.Sort(all)
	at := func(part int) time.Duration { return all[(len(all)-1)*part/100].Round(10 * time.Microsecond) }
	return centile{at(50), at(99), at(100)}
}

// verified is what every client of a load demands.
func (r loadRig) verified() *tls.Config {
	return &tls.Config{RootCAs: r.roots, ServerName: hostname}
}

// A sample is one handshake of a load.
type sample struct {
	at   time.Time
	took time.Duration
	leaf *x509.Certificate
	err  error
}
