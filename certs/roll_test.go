package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

func TestRollOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		old := rig.live()
		if _, err := r.Switch(t.Context(), rig.issue); err == nil || !strings.Contains(err.Error(), "begin") {
			t.Errorf("switch of nothing: %v", err)
		}
		state, err := r.Begin(t.Context())
		must(t, err)
		next := state.Next
		if state.Phase != RollStaged || state.Current != old || next == old || state.TTL != time.Hour || len(state.Publish) != 2 || len(state.Remove) != 0 {
			t.Errorf("%+v", state)
		}
		again, err := r.Begin(t.Context())
		if err != nil || again.Next != next {
			t.Errorf("begin is not idempotent: %v", err)
		}
		_, err = r.Switch(t.Context(), rig.issue)
		refusedRoll(t, err, "not visible everywhere: ns1 lacks "+rolledName)
		_, err = r.Publish(t.Context(), time.Hour)
		must(t, err)
		_, err = r.Check(t.Context())
		must(t, err)
		refusedRoll(t, r.MaySwitch(t.Context(), time.Now()), "wait another 2h0m0s")
		time.Sleep(2*time.Hour - time.Second)
		_, err = r.Switch(t.Context(), rig.issue)
		refusedRoll(t, err, "wait another 1s")
		time.Sleep(time.Second)
		state, err = r.Switch(t.Context(), rig.issue)
		must(t, err)
		want := []TLSARecord{{rolledName, old}}
		if rig.live() != next || state.Phase != RollSwitched || !slices.Equal(state.Remove, want) {
			t.Errorf("%+v", state)
		}
		rig.intact("after the switch")
		if state, err = r.Switch(t.Context(), rig.issue); err != nil || !slices.Equal(state.Remove, want) || rig.orders != 1 {
			t.Errorf("second switch: %+v, %v, %d orders", state, err, rig.orders)
		}
		if _, ok := rig.memory.values["roll/mail.example.org/p256/next.key"]; ok {
			t.Error("a copy of the key is left")
		}
		_, err = r.Abandon(t.Context())
		refusedRoll(t, err, "has the next key already")
		_, err = r.Publish(t.Context(), time.Hour)
		refusedRoll(t, err, "replicas")
		time.Sleep(rollSpread)
		if state, err = r.Publish(t.Context(), time.Hour); err != nil || state.Phase != RollNone || len(rig.memory.values) != 0 {
			t.Errorf("%+v, %v, left %d", state, err, len(rig.memory.values))
		}
		if got := rig.zone.servers["ns2"].now; !slices.Equal(got, []string{next}) {
			t.Errorf("zone has %q", got)
		}
		if text := fmt.Sprintf("%+v", state) + fmt.Sprint(rig.logs.All()); strings.Contains(text, "PRIVATE") {
			t.Error("a key is in it")
		}
	})
}

func refusedRoll(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("said %v, want %q", err, why)
	}
}

// staged is a roll-over whose next record is at every server.
func (rig *rollRig) staged(r *Roll) {
	rig.t.Helper()
	_, err := r.Begin(rig.t.Context())
	must(rig.t, err)
	_, err = r.Publish(rig.t.Context(), time.Hour)
	must(rig.t, err)
	_, err = r.Check(rig.t.Context())
	must(rig.t, err)
}

// A secondary that comes back with an old copy of the zone, or is silent, at
// any later look: caches may have that from it, so the wait begins anew.
func TestRollClockBeginsAnewWhenAServerMissesIt(t *testing.T) {
	for what, upset := range map[string]func(*rollRig){
		"ns2 lacks":        func(rig *rollRig) { rig.zone.servers["ns2"].set([]string{rig.live()}, time.Hour) },
		"ns2 says nothing": func(rig *rollRig) { rig.zone.away["ns2"] = true },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rig := newRollRig(t)
				r, _ := rig.roll(-1, false)
				rig.staged(r)
				time.Sleep(2 * time.Hour)
				must(t, r.MaySwitch(t.Context(), time.Now()))
				upset(rig)
				_, err := r.Switch(t.Context(), rig.issue)
				refusedRoll(t, err, what)
				rig.zone.away = map[string]bool{}
				_, err = r.Publish(t.Context(), time.Hour)
				must(t, err)
				_, err = r.Switch(t.Context(), rig.issue)
				refusedRoll(t, err, "wait another 2h0m0s")
				if rig.orders != 0 || rig.logs.FilterMessageSnippet("begins anew").Len() != 1 {
					t.Errorf("%d orders, said %v", rig.orders, rig.logs.All())
				}
			})
		})
	}
}

// A TTL that is lowered for the change does not shorten what caches have.
func TestRollWaitsForTheTTLBeforeTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		_, err := r.Begin(t.Context())
		must(t, err)
		rig.zone.ttl = time.Minute
		rig.staged(r)
		time.Sleep(10 * time.Minute)
		_, err = r.Switch(t.Context(), rig.issue)
		refusedRoll(t, err, "wait another 1h50m0s")
	})
}

func TestRollLearnsNothingWhenNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		rig.staged(r)
		before, err := r.State(t.Context())
		must(t, err)
		time.Sleep(3 * time.Hour)
		rig.zone.away = map[string]bool{"ns1": true, "ns2": true}
		_, err = r.Switch(t.Context(), rig.issue)
		refusedRoll(t, err, "no server of the zone answers")
		rig.zone.down = errors.New("no network")
		_, err = r.Check(t.Context())
		refusedRoll(t, err, "no network")
		after, err := r.State(t.Context())
		if err != nil || !after.Seen.Equal(before.Seen) {
			t.Errorf("%+v, %v", after, err)
		}
	})
}

// An issuance that fails, or brings another key, leaves the key in use.
func TestRollSurvivesAFailedIssuance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		rig.staged(r)
		time.Sleep(2 * time.Hour)
		old := rig.live()
		_, err := r.Switch(t.Context(), func(context.Context, crypto.Signer) error { return errors.New("CA is away") })
		refusedRoll(t, err, "CA is away")
		_, err = r.Switch(t.Context(), func(context.Context, crypto.Signer) error { return nil })
		refusedRoll(t, err, "does not have the next key")
		if rig.live() != old {
			t.Error("switched")
		}
		// An error after the certificate is there is none.
		state, err := r.Switch(t.Context(), func(ctx context.Context, key crypto.Signer) error {
			return errors.Join(rig.issue(ctx, key), errors.New("late"))
		})
		if err != nil || state.Phase != RollSwitched {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

func TestRollAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		rig.staged(r)
		state, err := r.State(t.Context())
		must(t, err)
		remove, err := r.Abandon(t.Context())
		if err != nil || !slices.Equal(remove, []TLSARecord{{rolledName, state.Next}}) || len(rig.memory.values) != 0 {
			t.Errorf("%v, %v", remove, err)
		}
		again, err := r.Begin(t.Context())
		if err != nil || again.Next == state.Next || !again.Seen.IsZero() {
			t.Errorf("%+v, %v", again, err)
		}
		// Damage is said, and can be abandoned.
		for _, file := range []string{"next.key", "state.json"} {
			rig.memory.values[r.file(file)] = []byte("{half")
			_, err = r.State(t.Context())
			refusedRoll(t, err, "abandon")
			_, err = r.Abandon(t.Context())
			must(t, err)
		}
	})
}

// A state whose key is gone, or is another, is not believed.
func TestRollStateBelongsToItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		rig.staged(r)
		other, err := certmagic.PEMEncodePrivateKey(newKey(t, false))
		must(t, err)
		time.Sleep(3 * time.Hour)
		for _, change := range []func(){
			func() { rig.memory.values[r.file("next.key")] = other },
			func() { delete(rig.memory.values, r.file("next.key")) },
		} {
			change()
			_, err = r.Switch(t.Context(), rig.issue)
			refusedRoll(t, err, "begin one")
		}
	})
}

// Killed at each call to the storage, before or after its effect, the next
// process goes on, and the caches never know.
func TestRollKilledAnywhere(t *testing.T) {
	for _, late := range []bool{false, true} {
		for lives := 1; ; lives++ {
			through := false
			synctest.Test(t, func(t *testing.T) {
				rig := newRollRig(t)
				first := rig.live()
				r, dying := rig.roll(lives, late)
				through = rig.tryAll(r)
				for _, name := range dying.locks { // its lease lapses
					_ = dying.Unlock(t.Context(), name)
				}
				rig.intact("after the kill")
				heir, _ := rig.roll(-1, false)
				rig.drive(heir, first)
				rig.intact("at the end")
				for name, c := range rig.zone.servers {
					if want := []string{rig.live()}; !slices.Equal(c.now, want) {
						t.Errorf("killed at %d (late %v): %s has %q, want %q", lives, late, name, c.now, want)
					}
				}
				if rig.orders > 1 || len(rig.memory.values) > 0 {
					t.Errorf("killed at %d (late %v): %d orders, %d values left", lives, late, rig.orders, len(rig.memory.values))
				}
			})
			if through {
				if lives < 8 {
					t.Errorf("through in %d calls: nothing was tried", lives)
				}
				break
			}
			if t.Failed() || lives > 100 {
				t.Fatal("stopped")
			}
		}
	}
}

// tryAll does the whole way and stops at the first error, as a process does
// that is dead.
func (rig *rollRig) tryAll(r *Roll) bool {
	ctx := rig.t.Context()
	steps := []func() error{
		func() error { _, err := r.Begin(ctx); return err },
		func() error { _, err := r.Publish(ctx, time.Hour); return err },
		func() error { _, err := r.Check(ctx); return err },
		func() error { time.Sleep(2 * time.Hour); _, err := r.Switch(ctx, rig.issue); return err },
		func() error { time.Sleep(time.Hour); _, err := r.Publish(ctx, time.Hour); return err },
	}
	for _, step := range steps {
		if step() != nil {
			return false
		}
		rig.intact("step")
	}
	return true
}

// Operators at once, who do anything at any time, with servers that lag and a
// TTL that changes: no cache is ever without the key in use.
func TestRollByCarelessOperators(t *testing.T) {
	switched := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			rig := newRollRig(t)
			random := rand.New(rand.NewPCG(seed, 1))
			for range 120 {
				r, _ := rig.roll(-1, false)
				rig.careless(r, random)
				rig.intact(fmt.Sprintf("seed %d", seed))
			}
			switched += rig.orders
		})
	}
	if switched < 20 {
		t.Errorf("only %d switches: nothing was tried", switched)
	}
}

func (rig *rollRig) careless(r *Roll, random *rand.Rand) {
	ctx := rig.t.Context()
	switch random.IntN(10) {
	case 0, 1:
		_, _ = r.Begin(ctx)
	case 2, 3:
		rig.lag(r, random)
	case 4, 5:
		_, _ = r.Check(ctx)
	case 6:
		_, _ = r.Switch(ctx, rig.issue)
	case 7:
		// What State names, and nothing else, is removed.
		state, err := r.State(ctx)
		if err == nil && state.Phase == RollSwitched {
			_, _ = r.Publish(ctx, time.Hour)
		}
	case 8:
		if random.IntN(10) == 0 {
			_, _ = r.Abandon(ctx)
		}
	case 9:
		rig.zone.mu.Lock()
		rig.zone.ttl = time.Duration(1+random.IntN(120)) * time.Minute
		rig.zone.mu.Unlock()
	}
	time.Sleep(time.Duration(random.IntN(60)) * time.Minute)
}

// lag publishes at some of the servers only.
func (rig *rollRig) lag(r *Roll, random *rand.Rand) {
	state, err := r.State(rig.t.Context())
	if err != nil || state.Phase != RollStaged {
		return
	}
	for _, c := range rig.zone.servers {
		if random.IntN(3) > 0 && !slices.Contains(c.now, state.Next) {
			rig.zone.mu.Lock()
			c.set(append(slices.Clone(c.now), state.Next), rig.zone.ttl)
			rig.zone.mu.Unlock()
		}
	}
}

// Two at once on a real storage: one key, one order.
func TestRollByTwoOperatorsAtOnce(t *testing.T) {
	rig := newRollRig(t)
	rig.zone.ttl = time.Millisecond
	dir := t.TempDir()
	nexts := make([]string, 4)
	var operators sync.WaitGroup
	for i := range nexts {
		r, _ := rig.roll(-1, false)
		r.Storage = disk(dir)
		operators.Go(func() {
			state, err := r.Begin(t.Context())
			if err != nil {
				t.Error(err)
			}
			nexts[i] = state.Next
		})
	}
	operators.Wait()
	if slices.Sort(nexts); nexts[0] != nexts[3] || nexts[0] == "" {
		t.Errorf("keys %q", nexts)
	}
	first, _ := rig.roll(-1, false)
	first.Storage = disk(dir)
	_, err := first.Publish(t.Context(), time.Hour)
	must(t, err)
	_, err = first.Check(t.Context())
	must(t, err)
	time.Sleep(10 * time.Millisecond)
	for range nexts {
		r, _ := rig.roll(-1, false)
		r.Storage = disk(dir)
		operators.Go(func() {
			if state, err := r.Switch(t.Context(), rig.issue); err != nil || state.Phase != RollSwitched || len(state.Remove) != 1 {
				t.Errorf("%+v, %v", state, err)
			}
		})
	}
	operators.Wait()
	if rig.orders != 1 {
		t.Errorf("%d orders", rig.orders)
	}
}

// The lock of somebody who never comes back is not waited for without end.
func TestRollWaitsForTheLockOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, p := rig.roll(-1, false)
		must(t, p.Lock(t.Context(), "roll_mail.example.org_p256"))
		start := time.Now()
		_, err := r.Begin(t.Context())
		refusedRoll(t, err, "somebody else is at it")
		if took := time.Since(start); took != rollLock {
			t.Errorf("took %v", took)
		}
	})
}

func TestRollOfNamesWithoutRecords(t *testing.T) {
	rig := newRollRig(t)
	for _, name := range []string{"*.example.org", "192.0.2.1"} {
		r, _ := rig.roll(-1, false)
		r.Name = name
		_, err := r.State(t.Context())
		refusedRoll(t, err, "name the MX hosts")
		r.Hosts = []string{"mail.example.org"}
		if state, err := r.Begin(t.Context()); err != nil || state.Publish[0].Name != rolledName {
			t.Errorf("%v, %v", state, err)
		}
	}
}

// Without anybody to ask, records can be printed, and the key stays.
func TestRollWithoutAZone(t *testing.T) {
	rig := newRollRig(t)
	r, _ := rig.roll(-1, false)
	r.Zone = nil
	if state, err := r.Begin(t.Context()); err != nil || len(state.Publish) != 2 {
		t.Errorf("%+v, %v", state, err)
	}
	_, err := r.Switch(t.Context(), rig.issue)
	refusedRoll(t, err, "no way to ask")
	if _, err := r.Publish(t.Context(), time.Hour); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// A name that has no certificate yet has no key to change.
func TestRollBeforeTheFirstCertificate(t *testing.T) {
	rig := newRollRig(t)
	r, _ := rig.roll(-1, false)
	r.Current = func(context.Context) (*x509.Certificate, error) { return nil, errNoCertificate }
	_, err := r.Begin(t.Context())
	refusedRoll(t, err, "get one first")
	if len(rig.memory.values) != 0 {
		t.Error("made a key")
	}
}

// The next key is of the type that the certificate is configured with.
func TestRollMakesAKeyOfTheSameType(t *testing.T) {
	rig := newRollRig(t)
	for _, kind := range []string{"p256", "p384", "rsa2048"} {
		r, _ := rig.roll(-1, false)
		r.KeyType = kind
		_, err := r.Begin(t.Context())
		must(t, err)
		key, err := r.readKey(t.Context())
		must(t, err)
		if got := kindOf(key.Public()); got != kind {
			t.Errorf("got %s, want %s", got, kind)
		}
	}
	r, _ := rig.roll(-1, false)
	r.KeyType = "dsa"
	_, err := r.Begin(t.Context())
	refusedRoll(t, err, "unknown key type")
}

func kindOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case interface{ Size() int }:
		return fmt.Sprintf("rsa%d", 8*k.Size())
	default:
		der, _ := x509.MarshalPKIXPublicKey(k)
		if len(der) > 100 {
			return "p384"
		}
		return "p256"
	}
}

// Killed when the certificate is there and nothing is written down: that is a
// switch all the same. The old record stays as long as after any other, and the
// key in use is not taken for a next one.
func TestRollKilledAfterTheIssuance(t *testing.T) {
	for what, then := range map[string]func(*testing.T, *rollRig, *Roll){
		"publish": func(t *testing.T, rig *rollRig, r *Roll) {
			_, err := r.Publish(t.Context(), time.Hour)
			refusedRoll(t, err, "replicas")
		},
		"begin": func(t *testing.T, rig *rollRig, r *Roll) {
			state, err := r.Begin(t.Context())
			if err != nil || state.Next == rig.live() || state.Phase != RollStaged {
				t.Errorf("%+v, %v", state, err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rig := newRollRig(t)
				r, _ := rig.roll(-1, false)
				rig.staged(r)
				time.Sleep(2 * time.Hour)
				dying, p := rig.roll(-1, false)
				_, err := dying.Switch(t.Context(), func(ctx context.Context, key crypto.Signer) error {
					p.lives = 0
					return rig.issue(ctx, key)
				})
				refusedRoll(t, err, "switch again")
				then(t, rig, r)
			})
		})
	}
}

// Whoever turns reuse_keys off has a new key at each renewal. Its record, too,
// is to be removed in the end.
func TestRollRemovesTheRecordOfAKeyInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newRollRig(t)
		r, _ := rig.roll(-1, false)
		first := rig.live()
		rig.staged(r)
		must(t, rig.issue(t.Context(), newKey(t, false)))
		between := rig.live()
		time.Sleep(2 * time.Hour)
		state, err := r.Switch(t.Context(), rig.issue)
		if want := []TLSARecord{{rolledName, first}, {rolledName, between}}; err != nil || !slices.Equal(state.Remove, want) {
			t.Errorf("remove %v, %v", state.Remove, err)
		}
	})
}
