package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"smtpseal/admin"
)

// upgradeHint is what to do about a failed upgrade. Why the new process ended it
// has said itself.
const upgradeHint = "the new process's own lines stand before this one; mend what they say and send USR2 again"

// handOver lets a new process of the program take over: it gets the listening
// sockets, and when it serves this one ends as after TERM. If it does not come
// to that, nothing has changed.
func (s *service) handOver(ctx context.Context) {
	ctx, release := s.untilEnd(ctx)
	defer release()
	done, err := s.claim(ctx)
	if err != nil {
		return
	}
	defer done()
	if ctx.Err() != nil {
		return
	}
	s.log.Info("upgrade: starting the new process")
	s.log.Sync()
	now := s.now.Load()
	pid, err := s.upgrader.Upgrade(ctx, now.sockets.handed(), s.systemd.Environ())
	if err != nil {
		s.upgrades.failed(err)
		s.log.Error("upgrade failed: this process goes on", zap.Error(err), zap.String("hint", upgradeHint))
		return
	}
	s.log.Info("upgrade: the new process serves, this one drains", zap.Int("new_pid", pid))
	s.replaced.Store(true)
	// What a CA asks, both can answer; what people ask is for the new one.
	s.beside.Go(now.admin.stop)
	s.askToEnd()
}

// Upgrades counts those that failed, and remembers the last: people see the
// status sooner than the log.
type upgrades struct {
	mu  sync.Mutex
	all admin.Upgrade
}

func (u *upgrades) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all.Failed++
	u.all.Last = admin.UpgradeFailed{Time: time.Now(), Error: oneLine(err)}
}

func (u *upgrades) status() admin.Upgrade {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all
}
