package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// A lock belongs to a token, made at random for one Lock call, and lasts for a
// lease, which a goroutine, the keeper, starts again at every third of it. So
//
//   - a holder that is killed gives way after a lease at most;
//   - a holder that is frozen for longer loses the lock to whoever waits. When
//     it goes on, neither its refresh nor its Unlock touches the new owner's
//     lock, since they name the old token. The refresh finds out and says so in
//     the log; Unlock returns ErrLockLost;
//   - in between, until that refresh, two may believe that they hold the lock.
//     No lease can prevent this. What is done under a lock must bear it: here it
//     is one certificate too many.
//
// The medium's locks exclude other processes and other Stores; within one Store
// callers queue for a name, which is what makes Unlock by name alone safe: the
// one who lost a lock must call Unlock before the next one here may have it.
type lock struct {
	name, token string
	sure        time.Time // when the last request was sent that made the lock ours
	held        bool      // false while Lock or Unlock is under way; guarded by store.mu

	stop    context.CancelFunc // of the keeper
	stopped chan none          // closed when it has ended
	free    chan none          // closed when the name is free in this Store
}

// ErrLockLost says that another had, or may have had, the lock before it was
// released.
var ErrLockLost = errors.New("the lock was lost before: this process stood still, or could not reach the storage, for longer than its lease")

// forgetTime bounds the release of a lock that we may have, not knowing.
const forgetTime = 2 * time.Second

// Lock waits until name is ours, as long as ctx allows. While others hold the
// lock a store that goes away for less than ten seconds is waited for.
func (s *store) Lock(ctx context.Context, name string) error {
	_, err := s.lock(ctx, name, true)
	return err
}

// TryLock returns whether name is ours now.
func (s *store) TryLock(ctx context.Context, name string) (bool, error) {
	return s.lock(ctx, name, false)
}

func (s *store) lock(ctx context.Context, name string, wait bool) (bool, error) {
	if err := s.enter(); err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	defer s.running.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(errClosed) })()
	l, err := s.queue(ctx, name, wait)
	if l != nil {
		var got bool
		if got, err = s.acquire(ctx, l, wait); got {
			return true, nil
		}
		s.leave(l)
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	return false, nil
}

// queue waits for our turn among the callers of this Store.
func (s *store) queue(ctx context.Context, name string, wait bool) (*lock, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		s.mu.Lock()
		before := s.locks[name]
		if before == nil {
			l := &lock{name: name, token: newToken(), free: make(chan none)}
			s.locks[name] = l
			s.mu.Unlock()
			return l, nil
		}
		s.mu.Unlock()
		if !wait {
			return nil, nil
		}
		select {
		case <-before.free:
		case <-ctx.Done():
		}
	}
}

// leave lets the next caller of this Store have its turn.
func (s *store) leave(l *lock) {
	s.mu.Lock()
	delete(s.locks, l.name)
	s.mu.Unlock()
	close(l.free)
}

// acquire makes l ours among all processes.
func (s *store) acquire(ctx context.Context, l *lock, wait bool) (bool, error) {
	answered := time.Now()
	for {
		l.sure = time.Now()
		got, err := bounded(ctx, s, callTime, func(ctx context.Context) (bool, error) {
			return s.medium.acquire(ctx, l.name, l.token, s.lease)
		})
		switch {
		case got && s.keep(l):
			return true, nil
		case got: // and closed meanwhile
			s.running.Go(func() { s.forget(l.name, l.token) })
			return false, errClosed
		case err == nil:
			answered = time.Now()
		case !wait, ctx.Err() != nil, time.Since(answered) > callTime:
			s.running.Go(func() { s.forget(l.name, l.token) })
			return false, err
		}
		if !wait {
			return false, nil
		}
		if ended := pause(ctx, s.poll()); ended != nil {
			return false, gaveUp(ended, err)
		}
	}
}

// gaveUp says what the waiting was for.
func gaveUp(ended, last error) error {
	if last != nil {
		return fmt.Errorf("%w, while waiting for the storage: %w", ended, last)
	}
	return fmt.Errorf("%w, while another had the lock", ended)
}

// poll is how often a lock that somebody has is asked for.
func (s *store) poll() time.Duration { return min(s.lease/20, time.Second) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// forget releases a lock that is ours if a request arrived whose answer did
// not. If it fails the lease ends it.
func (s *store) forget(name, token string) {
	_, err := bounded(context.Background(), s, forgetTime, func(ctx context.Context) (bool, error) {
		return s.medium.release(ctx, name, token)
	})
	if err != nil {
		s.log.Debug("lock may be held until its lease ends", zap.String("lock", name), zap.Error(err))
	}
}

// keep starts the keeper of a lock that is ours, unless Close, which must
// release all of them, has been there.
func (s *store) keep(l *lock) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	ctx, stop := context.WithCancel(s.life)
	l.stop, l.stopped, l.held = stop, make(chan none), true
	s.running.Go(func() { s.refresh(ctx, l) })
	return true
}

// refresh is the keeper. It ends with the lock: released, or lost.
func (s *store) refresh(ctx context.Context, l *lock) {
	defer close(l.stopped)
	ticker := time.NewTicker(s.lease / 3)
	defer ticker.Stop()
	log := s.log.With(zap.String("lock", l.name), zap.Stringer("storage", s.medium))
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		asked := time.Now()
		ours, err := bounded(ctx, s, min(callTime, s.lease/3), func(ctx context.Context) (bool, error) {
			return s.medium.refresh(ctx, l.name, l.token, s.lease)
		})
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && ours:
			l.sure = asked
		case err == nil:
			log.Warn("lock lost: this process stood still, or could not reach the storage, for longer than the lock's lease; another may do the same work now",
				zap.Duration("lease", s.lease), zap.Duration("since_refreshed", time.Since(l.sure)))
			return
		case time.Since(l.sure) > s.lease:
			log.Warn("lock cannot be refreshed, and another may have it now", zap.Error(err))
		default:
			log.Info("lock cannot be refreshed, trying again", zap.Error(err))
		}
	}
}

// Unlock ends the lock, also when ctx has ended: a lock that stays makes others
// wait for a lease.
func (s *store) Unlock(ctx context.Context, name string) error {
	err := s.enter()
	if err == nil {
		defer s.running.Done()
		err = s.unlock(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	return nil
}

func (s *store) unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	l := s.locks[name]
	if l == nil || !l.held {
		s.mu.Unlock()
		return errors.New("not held")
	}
	l.held = false // a second Unlock finds nothing
	s.mu.Unlock()
	defer s.leave(l)
	l.stop()
	<-l.stopped // or it would find its lock gone, and complain
	released, err := bounded(context.WithoutCancel(ctx), s, callTime, func(ctx context.Context) (bool, error) {
		return s.medium.release(ctx, l.name, l.token)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w (the lock ends by itself within %v)", err, s.lease)
	case !released:
		return ErrLockLost
	}
	return nil
}

// releaseAll is for Close: locks still held would make others wait.
func (s *store) releaseAll() {
	s.mu.Lock()
	var names []string
	for name, l := range s.locks {
		if l.held {
			names = append(names, name)
		}
	}
	s.mu.Unlock()
	// All at once, since a store that is away lets each wait for its full time.
	for _, name := range names {
		s.running.Go(func() { s.releaseLate(name) })
	}
}

func (s *store) releaseLate(name string) {
	if err := s.unlock(context.Background(), name); err != nil {
		s.log.Info("lock not released at the end", zap.String("lock", name), zap.Error(err))
	}
}

// newToken names an owner: 128 random bits, so never the same again.
func newToken() string {
	token := make([]byte, 16)
	rand.Read(token)
	return hex.EncodeToString(token)
}
