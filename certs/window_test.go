package certs

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// A window that the CA pulls forward, before a revocation, is followed at once.
func TestWindowPulledForwardRenewsEarly(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	ca.SetARI("", pebble.ARI{Start: time.Now().Add(65 * day), End: time.Now().Add(67 * day)})
	r := startACME(t, ca, withNames(acmeOptions(t, ca), "ari.example.org"))
	r.awaitReady(t)
	serial := served(t, r.Source)
	await(t, "the CA's window", func() bool { return r.Certificates()[0].NextRenewal.After(time.Now().Add(64 * day)) })
	chosen := r.Certificates()[0].NextRenewal
	time.Sleep(time.Second) // the window is asked for again and again
	if now := r.Certificates()[0].NextRenewal; !now.Equal(chosen) {
		t.Errorf("another moment of the same window: %s, before %s", now, chosen)
	}
	ca.SetARI(serial, pebble.ARI{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour), Explanation: "https://example.org/why"})
	await(t, "the renewal", func() bool { return served(t, r.Source) != serial })
	if n := count(r.logs, "the CA wants this certificate renewed earlier"); n != 1 {
		t.Errorf("said %d times", n)
	}
	time.Sleep(time.Second)
	if n := ca.FinalizedOrders(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

// Windows that make no sense neither cause orders in a loop nor let the end be
// missed.
func TestNonsenseWindows(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name   string
		ari    pebble.ARI
		orders int
	}{
		{"past", pebble.ARI{Start: now.Add(-48 * time.Hour), End: now.Add(-24 * time.Hour)}, 2},
		{"backwards", pebble.ARI{Start: now.Add(48 * time.Hour), End: now}, 1},
		{"ever", pebble.ARI{Start: now.Add(87600 * time.Hour), End: now.Add(90000 * time.Hour), RetryAfter: 87600 * time.Hour}, 1},
		{"epoch", pebble.ARI{Start: time.Unix(0, 0), End: time.Unix(1000, 0)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{})
			ca.SetARI("", c.ari)
			r := startACME(t, ca, withNames(acmeOptions(t, ca), c.name+".window.example.org"))
			r.awaitReady(t)
			if n := ca.WaitFinalized(c.orders, 10*time.Second); n != c.orders {
				t.Errorf("%d orders", n)
			}
			time.Sleep(2 * time.Second) // twenty polls
			if n := ca.FinalizedOrders(); n != c.orders {
				t.Errorf("%d orders", n)
			}
			got := r.Certificates()[0]
			if got.NextRenewal.Before(time.Now()) || got.NextRenewal.After(got.NotAfter.Add(-14*day)) {
				t.Errorf("next renewal on %s of a certificate that ends on %s", got.NextRenewal, got.NotAfter)
			}
		})
	}
}

// What a CA says about when to ask again has bounds, too.
func TestQuestionsHaveBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after         time.Duration
		least, atMost time.Duration
	}{
		"at once": {0, 100 * time.Millisecond, time.Second},
		"ever":    {87600 * time.Hour, 23 * time.Hour, 25 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{})
			ca.SetARI("", pebble.ARI{Start: time.Now().Add(60 * day), End: time.Now().Add(62 * day), RetryAfter: c.after})
			r := startACME(t, ca, withNames(acmeOptions(t, ca), "ask"+name[:2]+".example.org"))
			r.awaitReady(t)
			m := r.keepers[0].(*managed)
			window := func() window { m.mu.Lock(); defer m.mu.Unlock(); return m.window }
			await(t, "an answer", func() bool { return !window().at.IsZero() })
			if in := time.Until(window().next); in > c.atMost || c.least > time.Minute && in < c.least {
				t.Errorf("asks again in %s", in)
			}
		})
	}
}

// A CA that did not say when to renew is asked again an hour later, or at once
// when an operator says so; one that did is not.
func TestReloadAsksAgainWhoDidNotAnswer(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	ca.SetARI("", pebble.ARI{Start: time.Now().Add(60 * day), End: time.Now().Add(62 * day), RetryAfter: 12 * time.Hour})
	var asked atomic.Int64
	var away atomic.Bool
	away.Store(true)
	ca.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "renewal") || strings.Contains(r.URL.Path, "ari") {
				asked.Add(1)
				if away.Load() {
					w.WriteHeader(http.StatusNotFound)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	r := startACME(t, ca, withNames(acmeOptions(t, ca), "again.example.org"))
	r.awaitReady(t)
	await(t, "a question", func() bool { return asked.Load() > 0 })
	m := r.keepers[0].(*managed)
	window := func() window { m.mu.Lock(); defer m.mu.Unlock(); return m.window }
	await(t, "the wait", func() bool { return time.Until(window().next) > 50*time.Minute })
	before := asked.Load()
	time.Sleep(5 * r.options.StoragePoll)
	if got := asked.Load(); got != before {
		t.Errorf("asked %d times more by itself", got-before)
	}
	away.Store(false)
	r.Reload()
	await(t, "an answer", func() bool { return !window().at.IsZero() })
	before = asked.Load()
	r.Reload()
	time.Sleep(5 * r.options.StoragePoll)
	if got := asked.Load(); got != before {
		t.Errorf("asked %d times more though it had answered", got-before)
	}
}
