package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/cmd/smtpseal/systemd"
	"smtpseal/cmd/smtpseal/upgrade"
	"smtpseal/config"
	"smtpseal/proxy"
)

// A service is smtpseal at work. What a configuration decides is in its setup,
// which a reload replaces; what outlives a reload is here.
type service struct {
	log      *zap.Logger
	from     source
	file     string // as from has it at the start
	began    time.Time
	server   *proxy.Server
	counters proxy.Counters
	failures proxy.Failures
	renewals renewals
	reloads  reloads
	upgrades upgrades
	relays   relays

	tickets   *certs.Tickets   // of listeners that share them with no other process
	inherited *upgrade.Sockets // from systemd, or the process before us
	upgrader  upgrade.Upgrader
	systemd   *systemd.Notifier
	relevel   func(config.Log) // changes the log's level and form
	asked     context.Context  // until somebody wants the service to end
	askToEnd  func()           // as TERM does; a reload under way gives up
	replaced  atomic.Bool      // by another process, which is systemd's main one now

	changing chan struct{}         // holds one while somebody changes the setup, or ends it: see claim
	now      atomic.Pointer[setup] // the one that runs
	life     context.Context       // until the service has ended
	unlive   context.CancelFunc
	beside   sync.WaitGroup // what goes on beside the setups
}

// A source is where the configuration comes from.
type source struct {
	load func() (*config.Config, error) // anew each time
	file func() string                  // once it was loaded; "" without a file
}

// path is absolute, so that others know the file by it.
func (f source) path() string {
	if f.file == nil || f.file() == "" {
		return ""
	}
	path, err := filepath.Abs(f.file())
	if err != nil {
		return ""
	}
	return path
}

// Outside is what a service meets beside its configuration.
type outside struct {
	log       *zap.Logger
	relevel   func(config.Log)
	from      source
	inherited *upgrade.Sockets
	observers []proxy.Observer // told of each session, beside log and counters
}

// start brings everything up. All addresses are open before the first of them
// is served; on an error nothing is left behind. Who starts a service ends it
// with stop.
func start(ctx context.Context, c *config.Config, o outside) (*service, error) {
	s := &service{
		log: o.log, from: o.from, file: o.from.path(), relevel: o.relevel, inherited: o.inherited,
		began: time.Now(), tickets: certs.NewTickets(), changing: make(chan struct{}, 1),
	}
	if s.inherited == nil {
		s.inherited = new(upgrade.Sockets)
	}
	if s.relevel == nil {
		s.relevel = func(config.Log) {}
	}
	var err error
	if s.systemd, err = systemd.Open(); err != nil {
		s.log.Warn("systemd is not told how this process is", zap.Error(err))
	}
	s.systemd.Report = func(err error) { s.log.Warn("systemd is not told how this process is", zap.Error(err)) }
	s.upgrader.Announce = s.systemd.MainPID
	s.asked, s.askToEnd = context.WithCancel(context.Background())
	s.life, s.unlive = context.WithCancel(context.Background())
	s.server = &proxy.Server{
		Observer: append(proxy.MultiObserver{proxy.LogObserver(s.log), &s.counters, &s.failures}, o.observers...),
		Log:      s.log,
	}
	s.beside.Go(func() { s.tickets.Run(s.life) })
	next, err := s.prepare(ctx, c)
	if err == nil {
		err = s.commit(next)
	}
	if err != nil {
		s.unlive()
		s.beside.Wait()
		return nil, err
	}
	for _, name := range s.inherited.Close() {
		s.log.Warn("a socket that this process was given is not in the configuration, and was closed", zap.String("name", name))
	}
	return s, nil
}

// stop ends the service: no new session, and those that are up end by
// themselves until ctx is done, and then at once. It reports whether all had
// the time they needed. People can look on meanwhile.
func (s *service) stop(ctx context.Context) (unhurried bool) {
	s.askToEnd()
	// A reload under way gives up. One that cannot, since a file that it reads
	// does not answer, keeps nobody from ending.
	if done, err := s.claim(ctx); err == nil {
		defer done()
	}
	if !s.replaced.Load() {
		s.systemd.Stopping()
	}
	busy := s.server.Sessions() > 0
	err := s.server.Shutdown(ctx)
	s.now.Load().end(s)
	s.unlive()
	s.beside.Wait()
	return err == nil || !busy
}

// claim makes the caller the only one who changes the setup, or ends it, until
// it calls done. At the end of ctx it has waited in vain.
func (s *service) claim(ctx context.Context) (done func(), err error) {
	select {
	case s.changing <- struct{}{}:
		return func() { <-s.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change is under way: %w", ctx.Err())
	}
}
