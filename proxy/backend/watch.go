package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Watch checks all servers until ctx is done. It calls changed, which may be
// nil, for the first result of a server and whenever one goes up or down, one
// call at a time. It returns when no check is under way any more, at the latest
// a moment after ctx is done; at once if there is no Interval.
func (b *Backend) Watch(ctx context.Context, changed func(ServerState)) {
	if b.Health.Interval <= 0 {
		return
	}
	b.mu.Lock()
	b.begin()
	b.mu.Unlock()
	var one sync.Mutex
	tell := func(s ServerState) {
		one.Lock()
		defer one.Unlock()
		if changed != nil {
			changed(s)
		}
	}
	var watches sync.WaitGroup
	for i := range b.states {
		watches.Go(func() { b.watch(ctx, &b.states[i], tell) })
	}
	watches.Wait()
}

// watch looks after one server: sessions nudge it when they have seen a change,
// of which to tell, or a failure, which brings the next check forward.
func (b *Backend) watch(ctx context.Context, s *state, tell func(ServerState)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil { // select may prefer the timer
		if state, news := b.news(s); news {
			tell(state)
		}
		timer.Reset(b.wait(s))
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
			if b.wait(s) <= 0 { // sessions may have made it needless
				b.ask(ctx, s)
			}
		}
	}
}

// news returns what changed has not been told yet. Changes that come and go
// before they can be told are not.
func (b *Backend) news(s *state) (state ServerState, news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if news = s.Known && (!s.told || s.toldUp != s.Up); news {
		s.told, s.toldUp = true, s.Up
	}
	return s.ServerState, news
}

// ask makes a check. One that was cut short says nothing of the server.
func (b *Backend) ask(ctx context.Context, s *state) {
	err := b.check(ctx, s.server)
	if ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.asked, s.spread = time.Now(), rand.Float64()
	if err == nil {
		b.good(s, s.asked)
		return
	}
	b.bad(s, s.asked, printable(err.Error(), maxError), b.hint(err))
	if !s.Up && errors.As(err, new(*fault)) {
		s.refused++
	}
}

// wait returns how long it is until the next check of a server. A part of up to
// a tenth is taken off by chance, so that many are not asked in step.
func (b *Backend) wait(s *state) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.Known {
		return 0
	}
	pace, last := b.Health.Interval, s.asked
	if !s.Up || s.against > 0 {
		pace = b.Health.soon(s)
	} else if s.served.After(last) {
		last = s.served // it serves, why ask
	}
	return time.Until(last.Add(pace - time.Duration(s.spread*float64(pace/10))))
}

// soon is the pace of checks while something is wrong: a tenth of the Interval,
// yet no shorter than a second, so that a server that is restarted or about to
// go down is known soon. While a server that is down can be connected to, each
// check may be a warning in its log, so the pace doubles up to the Interval.
func (h Health) soon(s *state) time.Duration {
	pace := max(h.Interval/10, time.Second)
	if !s.Up && s.against > 0 {
		pace = time.Second // it answers again: nobody warns of that, and mail waits
	} else if s.against == 0 {
		for n := 1; n < s.refused && pace < h.Interval; n++ {
			pace *= 2
		}
	}
	return min(pace, h.Interval)
}
