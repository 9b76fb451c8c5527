package main

import (
	"context"

	"go.uber.org/zap"
)

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
		s.log.Error("upgrade failed: this process goes on", zap.Error(err))
		return
	}
	s.log.Info("upgrade: the new process serves, this one drains", zap.Int("new_pid", pid))
	s.replaced.Store(true)
	// What a CA asks, both can answer; what people ask is for the new one.
	s.beside.Go(now.admin.stop)
	s.askToEnd()
}
