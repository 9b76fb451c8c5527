package systemd

import (
	"context"
	"time"
)

// statusEvery is how old the status line may be. People read it, so seconds
// will do, and each change is a message to the manager.
const statusEvery = 5 * time.Second

// Watchdog is how often systemd wants a sign of life: twice in the time after
// which it ends the service. 0 means that nobody watches.
func (n *Notifier) Watchdog() time.Duration { return n.watchdog / 2 }

// Run gives signs of life for as long as alive says so, and keeps the status
// line fresh, until ctx is done. Both functions run in its own goroutine, so
// that one that never returns is a death, too. A manager that hears nothing
// kills the service and starts it again (WatchdogSec=, Restart=).
func (n *Notifier) Run(ctx context.Context, alive func() bool, status func() string) {
	if n.addr == "" {
		return
	}
	var due <-chan time.Time // never, if nobody watches
	if n.Watchdog() > 0 {
		ticker := time.NewTicker(n.Watchdog())
		defer ticker.Stop()
		due = ticker.C
	}
	refresh := time.NewTicker(statusEvery)
	defer refresh.Stop()
	n.ping(alive) // the last one may have been the old process's
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-due:
			n.ping(alive)
		case <-refresh.C:
			n.Status(status())
		}
	}
}

func (n *Notifier) ping(alive func() bool) {
	if n.watchdog == 0 || !alive() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("WATCHDOG=1")
}
