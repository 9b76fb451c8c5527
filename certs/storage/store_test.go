package storage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// A hung medium never answers and knows no context, as a file server that is
// away does.
type hung struct {
	medium
	until chan none
}

func (m hung) load(context.Context, string) ([]byte, error) { <-m.until; return nil, nil }
func (m hung) acquire(context.Context, string, string, time.Duration) (bool, error) {
	<-m.until
	return false, nil
}
func (m hung) release(context.Context, string, string) (bool, error) { <-m.until; return false, nil }
func (m hung) stat(context.Context, string) (certmagic.KeyInfo, error) {
	<-m.until
	return certmagic.KeyInfo{}, nil
}
func (m hung) close() error   { return nil }
func (m hung) String() string { return "a hung storage" }

func hanging() (*store, hung) {
	o := Options{}
	o.fill()
	m := hung{until: make(chan none)}
	return newStore(m, o), m
}

func TestHungStorageIsToldWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := hanging()
		began := time.Now()
		_, err := s.Load(t.Context(), "a")
		if d := time.Since(began); d != callTime {
			t.Errorf("after %v", d)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "load a: a hung storage: no answer within 10s") {
			t.Error(err)
		}
		if err := s.Lock(t.Context(), "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lock: %v", err)
		}
		close(m.until)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCallsToAHungStorageDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := hanging()
		var all sync.WaitGroup
		for range 3 * maxCalls {
			all.Go(func() {
				if _, err := s.Load(t.Context(), "a"); err == nil {
					t.Error("an answer")
				}
			})
		}
		all.Wait()
		if n := len(s.slots); n != maxCalls {
			t.Errorf("%d calls under way", n)
		}
		close(m.until)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseLeavesAHungStorageBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := hanging()
		s.Load(t.Context(), "a")
		began := time.Now()
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "hang") {
			t.Error(err)
		}
		if d := time.Since(began); d > 2*callTime {
			t.Errorf("after %v", d)
		}
		close(m.until)
	})
}

func TestNegativeLeaseIsRefused(t *testing.T) {
	if _, err := Open(t.Context(), Options{Type: "file", Path: t.TempDir(), Lease: -1}); err == nil {
		t.Error("it is not")
	}
}
