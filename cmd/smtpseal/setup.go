package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/config"
	"smtpseal/proxy"
	"smtpseal/proxy/backend"
)

// A setup is all that one configuration decides. It is prepared beside the one
// that runs, which does not notice, and then either takes its place or is rolled
// back: what can fail happens before.
type setup struct {
	config   *config.Config
	sockets  sockets
	keeping  *keeping
	change   *certs.Change // nil: the keeping is new
	hostname string        // in greetings and 421 replies
	by       map[string]proxy.Listener
	backends map[string]*backend.Backend
	admin    *administration // nil: there is none
	noRelays []string        // backends that were asked before, and do not relay

	life   context.Context // while it runs
	unlive context.CancelFunc
	asking sync.WaitGroup // who asks the backends how they are
}

var errEnding = errors.New("smtpseal is ending")

// prepare makes a setup beside the one that runs, if there is one.
func (s *service) prepare(ctx context.Context, c *config.Config) (_ *setup, err error) {
	before := s.now.Load()
	if before == nil {
		before = &setup{}
	}
	next := &setup{config: c}
	defer func() {
		if err != nil {
			next.rollBack(before)
		}
	}()
	if next.sockets, err = openSockets(ctx, c, before.sockets, s.inherited); err != nil {
		return nil, err
	}
	if err := s.prepareCertificates(ctx, next, before); err != nil {
		return nil, err
	}
	next.backends = backends(c)
	for _, b := range next.backends {
		b.Helo = next.hostname
	}
	if err := s.prepareAdmin(next, before); err != nil {
		return nil, err
	}
	return next, s.askForRelays(ctx, next, before)
}

// inherit makes the backends remember what is known of their servers.
func (n *setup) inherit(before *setup) {
	for name, b := range n.backends {
		if old := before.backends[name]; old != nil {
			b.Inherit(old)
		}
	}
}

// prepareCertificates goes on with what keeps certificates now, unless it is to
// be made of something else.
func (s *service) prepareCertificates(ctx context.Context, next, before *setup) error {
	m, err := madeOf(next.config)
	if err != nil {
		return err
	}
	if old := before.keeping; old != nil && old.made.equal(m) {
		next.keeping = old
		next.change, err = old.source.Prepare(ctx, entries(next.config))
	} else if next.keeping, err = openKeeping(ctx, next.config, m, s); err == nil {
		next.keeping.meanwhile = old.serving()
		err = next.keeping.listenOn(next.sockets)
	}
	if err != nil {
		return err
	}
	names := next.keeping.source.Names
	if next.change != nil {
		names = next.change.Names
	}
	next.hostname = hostname(next.config.Hostname, names())
	next.by, err = mailListeners(next)
	return err
}

// mailListeners are the listeners by name, but for the address. Where another CA
// or another storage has no certificate for us yet, and may never have one, what
// was served before goes on being served.
func mailListeners(next *setup) (map[string]proxy.Listener, error) {
	settings, err := tlsSettings(next.keeping.source, next.config)
	if err != nil {
		return nil, err
	}
	meanwhile := make(map[string]*tls.Config)
	if source := next.keeping.meanwhile; source != nil {
		if meanwhile, err = tlsSettings(source, next.config); err != nil {
			return nil, err
		}
	}
	made := make(map[string]proxy.Listener)
	for _, l := range next.config.Listeners {
		made[l.Name] = proxy.Listener{
			Name:        l.Name,
			Mode:        modes[l.Mode],
			TLS:         whenReady(next.keeping.source, settings[l.Name], meanwhile[l.Name]),
			AcceptProxy: l.AcceptProxy,
			AcceptUnix:  l.AcceptUnix,
		}
	}
	return made, nil
}

// commit makes a prepared setup the one that runs. From here on nothing fails
// but because the service has ended.
func (s *service) commit(next *setup) error {
	before := s.now.Load()
	if before == nil {
		before = &setup{}
	}
	if next.change != nil {
		next.change.Commit()
	}
	before.sockets.keepPathsFor(next.sockets)
	before.stopAsking(s)
	next.inherit(before)
	s.relevel(next.config.Log) // before the server looks at it
	if err := s.server.Apply(next.settings()); err != nil {
		next.rollBack(before)
		return fmt.Errorf("serve: %w", err)
	}
	next.sockets.fresh = nil // from the next line on others read it
	s.now.Store(next)
	next.watch(s)
	s.replaceParts(next, before)
	s.askLater(next, before)
	return nil
}

// replaceParts begins what is new and ends what is no longer wanted.
func (s *service) replaceParts(next, before *setup) {
	if next.keeping != before.keeping {
		next.keeping.run()
		if before.keeping != nil {
			s.beside.Go(before.keeping.stop) // who is told of its last events may be slow
		}
	} else {
		next.keeping.source.Reload() // what the files hold now
	}
	if next.admin != before.admin {
		next.admin.serve()
		s.beside.Go(before.admin.stop) // may be answering the request that brought us here
	}
	before.sockets.retire(next.sockets)
}

func (n *setup) settings() proxy.Settings {
	c := n.config
	settings := proxy.Settings{
		Hostname: n.hostname,
		Limits:   limits(c.Limits),
		Timeouts: timeouts(c.Timeouts),
	}
	for _, l := range c.Listeners {
		for _, a := range l.Listen {
			for _, open := range n.sockets.at(a).nets {
				one := n.by[l.Name]
				one.Net, one.Backend = open, n.backends[l.Backend]
				settings.Listeners = append(settings.Listeners, one)
			}
		}
	}
	return settings
}

// watch asks the backends that are used whether they serve, and whether they
// relay, until the setup is replaced.
func (n *setup) watch(s *service) {
	n.life, n.unlive = context.WithCancel(context.Background())
	for _, name := range n.used() {
		b := n.backends[name]
		n.asking.Go(func() {
			b.Watch(n.life, func(state backend.ServerState) {
				reportHealth(s.log, name, state)
				if state.Up && n.wantsRelayCheck(name) {
					n.asking.Go(func() { s.askForRelay(n, name) })
				}
			})
		})
	}
}

// used are the names of the backends that listeners have, sorted.
func (n *setup) used() []string {
	names := map[string]bool{}
	for _, l := range n.config.Listeners {
		names[l.Backend] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// mode is that of a listener, as the configuration spells it.
func (n *setup) mode(listener string) string {
	for _, l := range n.config.Listeners {
		if l.Name == listener {
			return l.Mode
		}
	}
	return ""
}

func (n *setup) uses(backend string) bool { return slices.Contains(n.used(), backend) }

func reportHealth(log *zap.Logger, name string, state backend.ServerState) {
	fields := []zap.Field{zap.String("backend", name), zap.Stringer("server", state.Server)}
	if state.Up {
		log.Info("backend is up", fields...)
		return
	}
	log.Warn("backend is down", append(fields, zap.String("error", state.Error), zap.String("hint", state.Hint))...)
}

// stopAsking waits beside the work: a question under way may take some seconds
// to end.
func (n *setup) stopAsking(s *service) {
	if n.unlive != nil {
		n.unlive()
		s.beside.Go(n.asking.Wait)
	}
}

// rollBack leaves nothing behind of a setup that does not come to run.
func (n *setup) rollBack(before *setup) {
	if n.change != nil {
		n.change.Discard()
	}
	if n.keeping != nil && n.keeping != before.keeping {
		n.keeping.release()
	}
	if n.admin != before.admin {
		n.admin.close()
	}
	n.sockets.rollBack()
}

// end ends everything but the sessions, which have ended.
func (n *setup) end(s *service) {
	n.stopAsking(s)
	n.keeping.stop()
	n.admin.stop()
	n.sockets.retire(sockets{})
}
