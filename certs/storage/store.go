package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// A store is what all media have in common.
type store struct {
	medium medium
	lease  time.Duration
	log    *zap.Logger

	life  context.Context // ends with Close
	end   context.CancelFunc
	slots chan none // one for each call under way, see maxCalls

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup   // calls, abandoned ones too, and the locks' keepers
	locks   map[string]*lock // by name: held here, or about to be
	ended   func() error     // Close, once
}

var _ Store = (*store)(nil)

// newStore takes o with its defaults filled in.
func newStore(m medium, o Options) *store {
	s := &store{
		medium: m, lease: o.Lease, log: o.Log,
		slots: make(chan none, maxCalls), locks: map[string]*lock{},
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.ended = sync.OnceValue(s.shut)
	return s
}

// String is what %v of a Store, and a logger, shows.
func (s *store) String() string { return s.medium.String() }

func (s *store) Store(ctx context.Context, key string, value []byte) error {
	_, err := named(ctx, s, "store", key, func(ctx context.Context) (none, error) {
		return none{}, s.medium.store(ctx, key, value)
	})
	return err
}

func (s *store) Load(ctx context.Context, key string) ([]byte, error) {
	return named(ctx, s, "load", key, func(ctx context.Context) ([]byte, error) {
		return s.medium.load(ctx, key)
	})
}

func (s *store) Delete(ctx context.Context, key string) error {
	_, err := named(ctx, s, "delete", key, func(ctx context.Context) (none, error) {
		return none{}, s.medium.remove(ctx, key)
	})
	return err
}

func (s *store) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	return named(ctx, s, "stat", key, func(ctx context.Context) (certmagic.KeyInfo, error) {
		return s.medium.stat(ctx, key)
	})
}

// Exists is false, too, when the store cannot be asked: certmagic's interface
// wants to be sure of what is true.
func (s *store) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List returns values and folders below prefix, sorted: all of them, or only
// the next level. Below a value there is nothing, which is not an error; below
// nothing there is fs.ErrNotExist. All as certmagic's FileStorage does it.
func (s *store) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	list := func(ctx context.Context) ([]string, error) {
		keys, err := s.medium.keys(ctx, prefix)
		if err == nil && len(keys) == 0 && prefix != "" {
			err = fs.ErrNotExist
		}
		return below(prefix, keys, recursive), err
	}
	if prefix == "" { // which is no key, but may be listed
		return call(ctx, s, "list", list)
	}
	return named(ctx, s, "list", prefix, list)
}

type none struct{}

// named is call for what concerns one key.
func named[T any](ctx context.Context, s *store, step, key string, f func(context.Context) (T, error)) (T, error) {
	if err := checkKey(key); err != nil {
		var zero T
		return zero, fmt.Errorf("%s: %w", step, err)
	}
	return call(ctx, s, step+" "+key, f)
}

// call is f within the limits, from outside.
func call[T any](ctx context.Context, s *store, step string, f func(context.Context) (T, error)) (T, error) {
	var result T
	err := s.enter()
	if err == nil {
		defer s.running.Done()
		result, err = bounded(ctx, s, callTime, f)
	}
	if err != nil {
		return result, fmt.Errorf("%s: %w", step, err)
	}
	return result, nil
}

// enter counts a call, which must end with running.Done. While one is counted,
// others may be added without asking.
func (s *store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.running.Add(1)
	return nil
}

// An answer is what f returned.
type answer[T any] struct {
	result T
	err    error
}

// bounded calls f in a goroutine of its own and waits for it until limit or the
// context's end, whatever f is stuck in: a read from a file server that is away
// cannot be ended, and not every client library ends what is cancelled.
func bounded[T any](ctx context.Context, s *store, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	var zero T
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer{s.medium, limit})
	defer cancel()
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	select {
	case s.slots <- none{}:
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
	answers := make(chan answer[T], 1)
	s.running.Go(func() { answers <- ask(ctx, s, f) })
	select {
	case a := <-answers:
		if a.err != nil && context.Cause(ctx) != nil && !errors.Is(a.err, fs.ErrNotExist) {
			return zero, context.Cause(ctx) // says more than "i/o timeout" does
		}
		return a.result, a.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

func ask[T any](ctx context.Context, s *store, f func(context.Context) (T, error)) answer[T] {
	defer func() { <-s.slots }()
	result, err := f(ctx)
	return answer[T]{result, err}
}

// errNoAnswer is the end of a call that nobody answered.
type errNoAnswer struct {
	medium medium
	limit  time.Duration
}

func (e errNoAnswer) Error() string {
	return fmt.Sprintf("%v: no answer within %v: see whether it is up and reachable", e.medium, e.limit)
}

// Timeout and Is make it the time-out that it is.
func (e errNoAnswer) Timeout() bool        { return true }
func (e errNoAnswer) Is(target error) bool { return target == context.DeadlineExceeded }

// Close ends everything; see Store.
func (s *store) Close() error { return s.ended() }

func (s *store) shut() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.releaseAll()
	quiet := make(chan none)
	go s.await(quiet)
	var hung error
	select {
	case <-quiet:
	case <-time.After(callTime):
		hung = fmt.Errorf("close %v: calls to it hang, and are left behind", s.medium)
	}
	return errors.Join(hung, s.medium.close())
}

func (s *store) await(quiet chan<- none) {
	s.running.Wait()
	close(quiet)
}
