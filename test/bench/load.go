package main

import (
	"context"
	"sync"
	"sync/atomic"
)

// parallel does f(0), f(1) … f(ops-1) with n workers, each saying which it
// is. The first error ends it, as does ctx.
func parallel(ctx context.Context, n, ops int, f func(ctx context.Context, worker, op int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				op := int(next.Add(1)) - 1
				if op >= ops {
					return
				}
				if err := f(ctx, worker, op); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// visit is one session: open, EHLO, whatever the work does, QUIT.
func visit(ctx context.Context, d *dialer, during func(*session) error) error {
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.ehlo(); err != nil {
		return err
	}
	if during != nil {
		if err := during(s); err != nil {
			return err
		}
	}
	return s.farewell()
}
