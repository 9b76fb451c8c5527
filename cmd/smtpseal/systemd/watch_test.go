package systemd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A diary notes what is sent, and when.
type diary struct {
	began time.Time
	lines []string
}

func (d *diary) write(_, message string) error {
	d.lines = append(d.lines, fmt.Sprintf("%v %s", time.Since(d.began), message))
	return nil
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(d.lines, want) {
		t.Errorf("sent %q, want %q", d.lines, want)
	}
	d.lines = nil
}

// watch runs a notifier for a while of the bubble's time.
func watch(t *testing.T, watchdog, during time.Duration, alive func() bool, status func() string) *diary {
	t.Helper()
	d := &diary{began: time.Now()}
	n := &Notifier{addr: "/n", watchdog: watchdog, write: d.write}
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	n.Run(ctx, alive, status)
	return d
}

func constant(text string) func() string { return func() string { return text } }

func TestAWatchdogHearsTwiceInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := watch(t, 6*time.Second, 10*time.Second, func() bool { return true }, constant(""))
		d.expect(t, "0s WATCHDOG=1", "3s WATCHDOG=1", "6s WATCHDOG=1", "9s WATCHDOG=1")
	})
}

func TestTheDeadDoNotPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		alive := func() bool { return time.Since(began) < 4*time.Second || time.Since(began) > 8*time.Second }
		d := watch(t, 6*time.Second, 10*time.Second, alive, constant(""))
		d.expect(t, "0s WATCHDOG=1", "3s WATCHDOG=1", "9s WATCHDOG=1")
	})
}

func TestTheStatusIsSentWhenItHasChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		status := func() string { return fmt.Sprintf("%d sessions", asked.Add(1)/3) }
		d := watch(t, 0, 31*time.Second, nil, status) // nobody watches, so alive is not asked
		d.expect(t, "5s STATUS=0 sessions", "15s STATUS=1 sessions", "30s STATUS=2 sessions")
	})
}

// A status that never comes is a death like any other.
func TestAStatusThatHangsStopsTheSignsOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := func() string { time.Sleep(25 * time.Second); return "late" }
		d := watch(t, 8*time.Second, 30*time.Second, func() bool { return true }, status)
		if len(d.lines) < 2 || !slices.Equal(d.lines[:2], []string{"0s WATCHDOG=1", "4s WATCHDOG=1"}) {
			t.Fatalf("sent %q", d.lines)
		}
		for _, line := range d.lines[2:] {
			if !strings.HasPrefix(line, "30s ") {
				t.Errorf("sent %q while it hung", line)
			}
		}
	})
}
