package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// messageLeft is the size of the message after which a session idles.
const messageLeft = 100 << 10

// measureIdle opens many sessions, lets them idle, has each send a message
// and lets them idle again. From each figure what the peer had before the
// first of them is taken off; a few sessions come and go before that, so
// that code and tables are in memory already.
func measureIdle(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	if err := roomFor(b.size.idle); err != nil {
		return nil, err
	}
	message := newBody(ordinaryPattern(), messageLeft)
	err := parallel(ctx, b.clients, 20, func(ctx context.Context, _, _ int) error {
		return visit(ctx, i.implicit, func(s *session) error { return s.send(message) })
	})
	if err != nil {
		return nil, errors.Join(err, i.ended())
	}
	baseline, err := i.settled(ctx, b.size.settles)
	if err != nil {
		return nil, err
	}
	sessions := make([]*session, b.size.idle)
	defer func() {
		for _, s := range sessions {
			if s != nil {
				s.close()
			}
		}
	}()
	steps := []func(ctx context.Context, _, op int) error{
		func(ctx context.Context, _, op int) (err error) {
			// Not the context of parallel, whose end would close them.
			sessions[op], err = i.implicit.open(context.WithoutCancel(ctx))
			return err
		},
		func(_ context.Context, _, op int) error {
			if err := sessions[op].ehlo(); err != nil {
				return err
			}
			return sessions[op].send(message)
		},
	}
	var figures []float64
	for _, step := range steps {
		if err := parallel(ctx, b.clients, len(sessions), step); err != nil {
			return nil, errors.Join(err, i.ended())
		}
		now, err := i.settled(ctx, b.size.settles)
		if err != nil {
			return nil, errors.Join(err, i.ended())
		}
		figures = append(figures, float64(now-baseline)/1024/float64(len(sessions)))
	}
	return figures, nil
}

// roomFor says before the work, and not as a refused session in the midst of
// it, that a peer's two descriptors a session do not fit.
func roomFor(sessions int) error {
	const others = 200
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptors: %w", err)
	}
	if need := uint64(2*sessions + others); limit.Max < need {
		return fmt.Errorf("descriptors: at most %d, need %d: raise the hard limit (ulimit -Hn)", limit.Max, need)
	}
	return nil
}
