package certs

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"smtpseal/test/pebble"
)

// failed waits for the first failed attempt and returns the status.
func (r *acmeRig) awaitFailure(t testing.TB) Certificate {
	t.Helper()
	await(t, "a failed attempt", func() bool { return r.Certificates()[0].Failures > 0 })
	return r.Certificates()[0]
}

// A CA that is in trouble at the start: nothing is served, the status says why,
// and it heals by itself when the back-off is over or an operator reloads.
func TestCAInTroubleAtStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func(*pebble.CA)
		says  string
	}{
		"down":   {func(ca *pebble.CA) { ca.Down() }, "connection refused"},
		"5xx":    {func(ca *pebble.CA) { ca.Answer5xx() }, "serverInternal"},
		"429":    {func(ca *pebble.CA) { ca.Answer429(0) }, "rateLimited"},
		"nonces": {func(ca *pebble.CA) { ca.BadNonces(-1) }, "badNonce"},
		"html":   {func(ca *pebble.CA) { ca.Hook(gateway) }, "502"},
		"hangs":  {func(ca *pebble.CA) { ca.Slow(time.Hour) }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{})
			o := withNames(acmeOptions(t, ca), name+".start.example.org")
			o.ACME.timeout = 20 * time.Second
			if name == "hangs" {
				o.ACME.timeout = 2 * time.Second
			}
			c.fault(ca)
			r := startACME(t, ca, o)
			got := r.awaitFailure(t)
			if got.Remedy != remedy(errors.New(got.LastError)) || !strings.Contains(got.LastError, c.says) || !strings.HasPrefix(got.Problem, "no certificate yet: ") || r.Ready() {
				t.Errorf("ready %t, %+v", r.Ready(), got)
			}
			if len(got.LastError) > 2*refusalText {
				t.Errorf("an error of %d octets", len(got.LastError))
			}
			if in := time.Until(got.NextTry); in < 50*time.Second || in > 67*time.Second {
				t.Errorf("next try in %s", in)
			}
			must(t, ca.Up())
			ca.Heal()
			ca.Hook(nil)
			r.Reload()
			r.awaitReady(t)
		})
	}
}

// gateway is what stands in front of a CA that is away.
func gateway(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		w.Write([]byte("<html>" + strings.Repeat("sorry ", 10000)))
	})
}

// A CA that is down when a renewal is due: the last good one is served, nobody is
// alarmed before the end is near, and every failure is told.
func TestCADownDuringRenewal(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{Validity: 36 * time.Second})
	o := withNames(acmeOptions(t, ca), "renewal.example.org")
	o.ACME.IgnoreARI = true
	r := startACME(t, ca, o)
	r.awaitReady(t)
	serial := served(t, r.Source)
	must(t, ca.Down())
	r.awaitSince(t, 45*time.Second, func() bool { return r.Certificates()[0].Failures > 0 })
	if p := r.Problems(); len(p) > 0 || served(t, r.Source) != serial {
		t.Errorf("with a third of its life left: %q", p)
	}
	r.awaitSince(t, 30*time.Second, func() bool { return len(r.Problems()) > 0 })
	if p := r.Problems()[0]; !strings.Contains(p, "not renewed: expires on") || !strings.Contains(p, "refused") || served(t, r.Source) != serial {
		t.Errorf("near the end: %s", p)
	}
	must(t, ca.Up())
	r.Reload()
	r.awaitReady(t)
	if served(t, r.Source) == serial {
		t.Error("not renewed")
	}
}

func (r *acmeRig) awaitSince(t testing.TB, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %s: %+v", limit, r.Certificates())
		}
	}
}

// Half of all nonces refused, and every answer late: slow, but no failure.
func TestBadNoncesAndASlowCA(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{NonceReject: 50})
	ca.Slow(100 * time.Millisecond)
	ca.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
			next.ServeHTTP(w, r)
		})
	})
	r := startACME(t, ca, withNames(acmeOptions(t, ca), "slow.example.org"))
	for end := time.Now().Add(40 * time.Second); len(r.Problems()) > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r.Reload() // acmez gives up behind so many nonces in a row
	}
	r.awaitReady(t)
}

// Retry-After of all CAs that refuse is kept, to a bound. One CA without it may
// be asked soon.
func TestRetryAfterIsKeptWithinBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		asked         time.Duration
		another       bool
		least, atMost time.Duration
	}{
		{"none", 0, false, 54 * time.Second, 66 * time.Second},
		{"short", 10 * time.Second, false, 54 * time.Second, 66 * time.Second},
		{"long", 2 * time.Hour, false, 108 * time.Minute, 132 * time.Minute},
		{"endless", 87600 * time.Hour, false, 324 * time.Minute, 396 * time.Minute},
		{"another", 2 * time.Hour, true, 54 * time.Second, 66 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{})
			ca.Answer429(c.asked)
			o := withNames(acmeOptions(t, ca), c.name+".retry.example.org")
			if c.another {
				second := pebble.Start(t, pebble.Options{})
				must(t, second.Down())
				o.ACME.Directories = append(o.ACME.Directories, directoryOf(second))
			}
			r := startACME(t, ca, o)
			got := r.awaitFailure(t)
			wait := time.Until(got.NextTry)
			if wait < c.least-10*time.Second || wait > c.atMost {
				t.Errorf("next try in %s", wait)
			}
			ca.Heal()
			r.Reload() // an operator need not wait
			r.awaitReady(t)
		})
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "0": 0, "Sun, 22 Nov 2026 07:00:00 GMT": time.Hour,
		"2147483647": 2147483647 * time.Second,
	} {
		if got := retryAfter(value, now).Sub(now); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
	for _, value := range []string{"", "-1", "soon", "99999999999999999999"} {
		if got := retryAfter(value, now); !got.IsZero() {
			t.Errorf("%q: %s", value, got)
		}
	}
}

// The steps of the back-off, their jitter, and clocks that are set.
func TestBackOffSteps(t *testing.T) {
	t.Parallel()
	s := &Source{}
	spread := map[time.Duration]bool{}
	for range 20 {
		m := &managed{issuance: &issuance{}, source: s, log: zap.NewNop()}
		for i, want := range append(backOff, time.Hour, time.Hour) {
			m.tried(errBroken)
			wait := m.state.nextTry.Sub(m.state.lastTry)
			if wait < want*9/10 || wait > want*11/10 {
				t.Errorf("step %d: %s", i, wait)
			}
			spread[wait] = true
			if !m.tooEarly(m.state.lastTry.Add(wait-time.Second)) || m.tooEarly(m.state.nextTry) {
				t.Errorf("step %d: not from the moment on that it says", i)
			}
			if m.tooEarly(m.state.lastTry.Add(-time.Second)) {
				t.Errorf("step %d: waits for a clock that was set back", i)
			}
		}
	}
	if len(spread) < 100 {
		t.Errorf("%d different waits", len(spread))
	}
}

// A storage that is away when a renewal is due costs nothing but time.
func TestStorageAwayDuringRenewal(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{Validity: 12 * time.Second})
	store := newMemory()
	o := withNames(acmeOptions(t, ca), "mount.example.org")
	o.Storage, o.ACME.IgnoreARI = store, true
	r := startACME(t, ca, o)
	r.awaitReady(t)
	serial := served(t, r.Source)
	store.fail(http.ErrServerClosed)
	await(t, "the outage on the status page", func() bool { return strings.Contains(r.Certificates()[0].LastError, "storage") })
	time.Sleep(10 * time.Second) // it is due now
	if served(t, r.Source) != serial || ca.FinalizedOrders() != 1 {
		t.Error("ordered what cannot be kept")
	}
	store.fail(nil)
	r.awaitReady(t)
	await(t, "the renewal", func() bool { return served(t, r.Source) != serial })
	if e := r.Certificates()[0].LastError; e != "" {
		t.Errorf("still on the status page: %s", e)
	}
	if n := count(r.logs, "storage cannot be read: the certificate that is held is served"); n > 3 {
		t.Errorf("said %d times", n)
	}
}
