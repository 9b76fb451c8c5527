package certs

import (
	"context"
	"errors"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// A key that the caller brings is issued for and stays, whatever a crash has left
// in the storage.
func TestIssueWithMendsFirst(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	store := newMemory()
	o := withNames(acmeOptions(t, ca), "issued.example.org")
	o.Storage = store
	r := startACME(t, ca, o)
	r.awaitReady(t)
	roll, err := r.Roll("issued.example.org", "")
	must(t, err)
	issuer := r.acme.issuers[0].IssuerKey()
	for name, spoil := range map[string]func(){
		"whole":    func() {},
		"half key": func() { store.Store(t.Context(), siteKey(issuer, "issued.example.org"), []byte("-----BEGIN")) },
		"no key":   func() { store.Delete(t.Context(), siteKey(issuer, "issued.example.org")) },
		"nothing": func() {
			store.Delete(t.Context(), siteKey(issuer, "issued.example.org"))
			store.Delete(t.Context(), siteCert(issuer, "issued.example.org"))
		},
	} {
		spoil()
		key, before := newKey(t, false), ca.FinalizedOrders()
		if err := r.IssueWith(t.Context(), roll, key); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := r.Served("issued.example.org")
		must(t, err)
		if !hasKey(c.Leaf, key.Public()) || ca.FinalizedOrders() != before+1 {
			t.Errorf("%s: served with another key, or %d orders", name, ca.FinalizedOrders()-before)
		}
		must(t, r.Renew(t.Context(), "issued.example.org"))
		if c, err = r.Served("issued.example.org"); err != nil || !hasKey(c.Leaf, key.Public()) {
			t.Errorf("%s: the next renewal has another key: %v", name, err)
		}
	}
}

// It takes turns with renewals, of this process and of others.
func TestIssueWithTakesTurns(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	store := newMemory()
	o := withNames(acmeOptions(t, ca), "turns.example.org")
	o.Storage = store
	r := startACME(t, ca, o)
	r.awaitReady(t)
	roll, err := r.Roll("turns.example.org", "p256")
	must(t, err)
	const lock = "smtpseal_renew_p256_turns.example.org"
	must(t, store.Lock(t.Context(), lock))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := r.IssueWith(ctx, roll, newKey(t, false)); !errors.Is(err, context.DeadlineExceeded) || ca.FinalizedOrders() != 1 {
		t.Errorf("with another process at it: %v, %d orders", err, ca.FinalizedOrders())
	}
	must(t, store.Unlock(t.Context(), lock))
	key := newKey(t, false)
	must(t, r.IssueWith(t.Context(), roll, key))
	must(t, store.Lock(t.Context(), lock)) // it has let go
	if c, err := r.Served("turns.example.org"); err != nil || !hasKey(c.Leaf, key.Public()) {
		t.Errorf("not served: %v", err)
	}
}
