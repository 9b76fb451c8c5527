package storage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func tryLock(t *testing.T, s Store, name string) bool {
	t.Helper()
	got, err := s.TryLock(t.Context(), name)
	must(t, err)
	return got
}

// soon is a context for what must not take long.
func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func oneOwner(t *testing.T, open func(*testing.T) Store) {
	ctx := t.Context()
	var inside, rounds atomic.Int32
	var all sync.WaitGroup
	for range 3 {
		s := open(t)
		all.Go(func() {
			for range 4 {
				if err := s.Lock(ctx, "one"); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d inside", n)
				}
				time.Sleep(5 * time.Millisecond)
				inside.Add(-1)
				rounds.Add(1)
				if err := s.Unlock(ctx, "one"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if rounds.Load() != 12 {
		t.Errorf("%d rounds", rounds.Load())
	}
}

func ownQueue(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	must(t, s.Lock(ctx, "queue"))
	if tryLock(t, s, "queue") {
		t.Error("two callers have one lock")
	}
	var order []string // guarded by the lock
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if err := s.Lock(ctx, "queue"); err != nil {
				t.Error(err)
				return
			}
			order = append(order, "in")
			if err := s.Unlock(ctx, "queue"); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, s.Unlock(ctx, "queue"))
	all.Wait()
	if len(order) != 5 {
		t.Errorf("%d of 5 had it", len(order))
	}
	if !tryLock(t, s, "queue") {
		t.Error("the lock is not free after all")
	}
	must(t, s.Unlock(ctx, "queue"))
}

func oddLocks(t *testing.T, open func(*testing.T) Store) {
	one, other, ctx := open(t), open(t), soon(t, 20*time.Second)
	names := []string{"issue_cert_*.example.org", "a/b", "..", "with blank", "bücher", "bcher", "Bcher", strings.Repeat("long", 100), strings.Repeat("long", 100) + "er", "'\"%{}"}
	for _, name := range names {
		must(t, one.Lock(ctx, name))
	}
	for _, name := range names {
		if tryLock(t, other, name) {
			t.Errorf("%s: two have it", name)
		}
		must(t, one.Unlock(ctx, name))
		if !tryLock(t, other, name) {
			t.Errorf("%s: nobody has it", name)
			continue
		}
		must(t, other.Unlock(ctx, name))
	}
}

func waitEnds(t *testing.T, open func(*testing.T) Store) {
	one, other := open(t), open(t)
	must(t, one.Lock(t.Context(), "wait"))
	for _, s := range []Store{one, other} {
		began := time.Now()
		if err := s.Lock(soon(t, 200*time.Millisecond), "wait"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("it took %v", d)
		}
	}
	must(t, one.Unlock(t.Context(), "wait"))
	must(t, other.Lock(soon(t, testLease), "wait")) // those who gave up left nothing
	must(t, other.Unlock(t.Context(), "wait"))
}

func lockLasts(t *testing.T, open func(*testing.T) Store) {
	one, other := open(t), open(t)
	must(t, one.Lock(t.Context(), "last"))
	if err := other.Lock(soon(t, 2*testLease), "last"); err == nil {
		t.Error("another got a lock that is refreshed")
	}
	must(t, one.Unlock(t.Context(), "last"))
}

// A stalled medium is that of a process which is frozen, or dead: its keepers
// do nothing.
type stalled struct {
	medium
	on atomic.Bool
}

func (m *stalled) refresh(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	if m.on.Load() {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return m.medium.refresh(ctx, name, token, lease)
}

// stall makes s one that can stand still, before anything else uses it.
func stall(s Store) *stalled {
	m := &stalled{medium: s.(*store).medium}
	s.(*store).medium = m
	return m
}

func deadOwner(t *testing.T, open func(*testing.T) Store) {
	dying, next := open(t), open(t)
	clock := stall(dying)
	must(t, dying.Lock(t.Context(), "dead"))
	time.AfterFunc(testLease/2, func() { clock.on.Store(true) }) // while the next one waits
	began := time.Now()
	must(t, next.Lock(soon(t, 3*testLease), "dead"))
	if d := time.Since(began); d < testLease/2 || d > testLease*2 {
		t.Errorf("the next one has it after %v, the owner was dead after %v", d, testLease/2)
	}
	must(t, next.Unlock(t.Context(), "dead"))
}

func frozenOwner(t *testing.T, open func(*testing.T) Store) {
	frozen, thief, third := open(t), open(t), open(t)
	core, logs := observer.New(zap.WarnLevel)
	frozen.(*store).log = zap.New(core)
	clock := stall(frozen)
	must(t, frozen.Lock(t.Context(), "frozen"))
	clock.on.Store(true)
	must(t, thief.Lock(soon(t, 3*testLease), "frozen"))
	clock.on.Store(false)
	for range 50 {
		if logs.FilterMessageSnippet("lock lost").Len() > 0 {
			break
		}
		time.Sleep(testLease / 20)
	}
	if logs.FilterMessageSnippet("lock lost").Len() != 1 {
		t.Errorf("the one that was frozen is not told: %v", logs.All())
	}
	if err := frozen.Unlock(t.Context(), "frozen"); !errors.Is(err, ErrLockLost) {
		t.Errorf("its Unlock: %v", err)
	}
	if tryLock(t, third, "frozen") || tryLock(t, frozen, "frozen") {
		t.Error("it took the next one's lock along")
	}
	must(t, thief.Unlock(t.Context(), "frozen"))
	if !tryLock(t, third, "frozen") {
		t.Error("the lock is not free after all")
	}
	must(t, third.Unlock(t.Context(), "frozen"))
}

func unlockUnheld(t *testing.T, open func(*testing.T) Store) {
	one, other, ctx := open(t), open(t), t.Context()
	must(t, one.Lock(ctx, "mine"))
	for name, err := range map[string]error{"another's": other.Unlock(ctx, "mine"), "nobody's": one.Unlock(ctx, "nobody")} {
		if err == nil {
			t.Errorf("%s lock was unlocked", name)
		}
	}
	if tryLock(t, other, "mine") {
		t.Error("it was, indeed")
	}
	must(t, one.Unlock(ctx, "mine"))
	if one.Unlock(ctx, "mine") == nil {
		t.Error("twice")
	}
}

func closeEnds(t *testing.T, open func(*testing.T) Store) {
	closing, other, ctx := open(t), open(t), t.Context()
	must(t, closing.Lock(ctx, "close mine"))
	must(t, other.Lock(ctx, "close other"))
	waited := make(chan error, 1)
	go func() { waited <- closing.Lock(ctx, "close other") }()
	time.Sleep(50 * time.Millisecond)
	must(t, closing.Close())
	select {
	case err := <-waited:
		if !errors.Is(err, errClosed) {
			t.Errorf("waiting ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("one still waits for a lock after Close")
	}
	if !tryLock(t, other, "close mine") {
		t.Error("a lock outlives Close")
	}
	must(t, other.Unlock(ctx, "close mine"))
	must(t, other.Unlock(ctx, "close other"))
	must(t, closing.Close())
	if err := closing.Store(ctx, "closed", nil); !errors.Is(err, errClosed) {
		t.Errorf("a call after Close: %v", err)
	}
}
