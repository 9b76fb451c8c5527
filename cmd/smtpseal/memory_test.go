package main

import (
	"runtime/debug"
	"testing"
)

// A tidier that is played a history of the heap, look by look.
func TestTidierTidiesOnceForABurst(t *testing.T) {
	var allocated uint64
	tidied := 0
	d := &tidier{read: func() (uint64, uint64) { return allocated, 8 << 20 }, tidy: func() { tidied++ }}
	steps := []struct {
		name      string
		allocates uint64
		tidied    int
	}{
		{"start", 100 << 20, 0},
		{"burst goes on", 50 << 20, 0},
		{"quiet", 64 << 10, 1},
		{"quiet still", 64 << 10, 1},
		{"a little, not worth it", 1 << 20, 1},
		{"quiet", 0, 1},
		{"another burst", 9 << 20, 1},
		{"quiet", 0, 2},
	}
	for _, s := range steps {
		allocated += s.allocates
		if d.look(); tidied != s.tidied {
			t.Fatalf("%s: tidied %d times, want %d", s.name, tidied, s.tidied)
		}
	}
}

func TestTidierLetsGarbageGather(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	d := &tidier{mayPace: true, percent: 100}
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 300}, {2 << 20, 300}, {3 << 20, 200}, {6 << 20, 100}, {1 << 30, 100}} {
		d.pace(c.live)
		if got := debug.SetGCPercent(d.percent); got != c.want || d.percent != c.want {
			t.Errorf("%d MiB live: %d %%, want %d", c.live>>20, got, c.want)
		}
	}
	d = &tidier{percent: 100}
	if d.pace(0); d.percent != 100 {
		t.Error("GOGC was set by the user, and overridden")
	}
}
