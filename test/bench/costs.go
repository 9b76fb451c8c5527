package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// each does ops operations by f and returns the processor time of one in
// microseconds; the pace is noted. A tenth as many come before, uncounted.
func (i *instance) each(ctx context.Context, n, ops int, f func(ctx context.Context, worker, op int) error) (float64, error) {
	if err := parallel(ctx, n, max(n, ops/10), f); err != nil {
		return 0, errors.Join(err, i.ended())
	}
	used, wall, err := i.processor(func() error { return parallel(ctx, n, ops, f) })
	i.pace = float64(ops) / wall.Seconds()
	return microseconds(used) / float64(ops), err
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func one(value float64, err error) ([]float64, error) { return []float64{value}, err }

func measureHandshake(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	return one(i.visits(ctx, b, i.implicit, nil))
}

func measureStartTLS(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	return one(i.visits(ctx, b, i.upgraded, nil))
}

func measureMessage(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	message := newBody(ordinaryPattern(), 10<<10)
	return one(i.visits(ctx, b, i.implicit, func(s *session) error { return s.send(message) }))
}

func (i *instance) visits(ctx context.Context, b *rig, d *dialer, during func(*session) error) (float64, error) {
	return i.each(ctx, b.clients, b.size.visits, func(ctx context.Context, _, _ int) error {
		return visit(ctx, d, during)
	})
}

// measureResumed counts too which offers were taken. The uncounted
// sessions before give each worker its first ticket.
func measureResumed(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	dialers := make([]*dialer, b.clients)
	offered, taken := make([]int, b.clients), make([]int, b.clients)
	for w := range dialers {
		dialers[w] = i.implicit.resuming()
		if err := visit(ctx, dialers[w], nil); err != nil {
			return nil, err
		}
	}
	used, err := i.each(ctx, b.clients, b.size.visits, func(ctx context.Context, w, _ int) error {
		if _, ok := dialers[w].config.ClientSessionCache.Get(serverName); ok {
			offered[w]++
		}
		return visit(ctx, dialers[w], func(s *session) error {
			if s.tls.ConnectionState().DidResume {
				taken[w]++
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	var allOffered, allTaken int
	for w := range dialers {
		allOffered += offered[w]
		allTaken += taken[w]
	}
	if allOffered == 0 {
		return nil, errors.New("no ticket was ever given: nothing to resume")
	}
	return []float64{used, 100 * float64(allTaken) / float64(allOffered)}, nil
}

// measureWall alternates the two ways, one session at a time: an unloaded
// machine is the point here.
func measureWall(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	var times [2][]time.Duration
	for range b.size.visits / 5 {
		for way, d := range []*dialer{i.implicit, i.upgraded} {
			began := time.Now()
			if err := visit(ctx, d, nil); err != nil {
				return nil, errors.Join(err, i.ended())
			}
			times[way] = append(times[way], time.Since(began))
		}
	}
	direct, upgraded := microseconds(median(times[0]))/1e3, microseconds(median(times[1]))/1e3
	return []float64{direct, upgraded, upgraded - direct}, nil
}

// measureReuse keeps as many connections busy as other works do: with one
// alone the peer sleeps between any two packets, and what is measured is how
// the scheduler wakes it.
func measureReuse(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	message := newBody(ordinaryPattern(), 10<<10)
	sessions := make([]*session, b.clients)
	for w := range sessions {
		s, err := i.implicit.open(ctx)
		if err != nil {
			return nil, err
		}
		defer s.close()
		if err := s.ehlo(); err != nil {
			return nil, err
		}
		sessions[w] = s
	}
	return one(i.each(ctx, b.clients, b.size.reuse, func(_ context.Context, w, _ int) error {
		return sessions[w].send(message)
	}))
}

func measureBulk(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	return one(i.bulk(ctx, b, ordinaryPattern(), b.size.bodies))
}

// bulk is the processor time for a large body of the pattern, one a
// connection, in seconds for a GiB.
func (i *instance) bulk(ctx context.Context, b *rig, pattern []byte, bodies int) (float64, error) {
	large := newBody(pattern, b.size.large)
	used, err := i.each(ctx, 1, bodies, func(ctx context.Context, _, _ int) error {
		return visit(ctx, i.implicit, func(s *session) error { return s.send(large) })
	})
	return used / 1e6 * (1 << 30) / float64(large.length), err
}

// measureHostile compares with an ordinary body through the same instance.
func measureHostile(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	bodies := max(1, b.size.bodies/8)
	ordinary, err := i.bulk(ctx, b, ordinaryPattern(), bodies)
	if err != nil {
		return nil, err
	}
	var ratios []float64
	for _, h := range hostileBodies {
		used, err := i.bulk(ctx, b, []byte(h.pattern), bodies)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.name, err)
		}
		ratios = append(ratios, used/ordinary)
	}
	return ratios, nil
}

// measureNoop takes turns between the peer and the sink itself, so that what
// the machine does meanwhile meets both.
func measureNoop(ctx context.Context, b *rig, i *instance) ([]float64, error) {
	const turn = 100
	var times [2][]time.Duration
	var sessions [2]*session
	for n, d := range []*dialer{b.dialer(plain, b.plain), i.implicit} {
		s, err := d.open(ctx)
		if err != nil {
			return nil, err
		}
		defer s.close()
		if err := s.ehlo(); err != nil {
			return nil, err
		}
		sessions[n] = s
	}
	for range b.size.noops / turn {
		for n, s := range sessions {
			for range turn {
				began := time.Now()
				if err := s.noop(); err != nil {
					return nil, errors.Join(err, i.ended())
				}
				times[n] = append(times[n], time.Since(began))
			}
		}
	}
	return []float64{microseconds(median(times[1]) - median(times[0]))}, nil
}
