package main

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/storage"
	"smtpseal/config"
	"smtpseal/proxy"
)

// A service is smtpseal at work: certificates that are kept fresh, and
// listeners that are served.
type service struct {
	log      *zap.Logger
	certs    *certs.Source
	server   *proxy.Server
	hostname string
	counters proxy.Counters
	open     []bound
	answers  challengeListeners
	store    storage.Store // nil: nothing is stored

	stopCerts func()
	keeping   sync.WaitGroup
}

// start brings everything up. All addresses are open before the first of them
// is served; on an error nothing is left behind. Who starts a service ends it
// with stop. Beside the log and the counters, also is told of each session.
func start(ctx context.Context, c *config.Config, log *zap.Logger, also ...proxy.Observer) (_ *service, err error) {
	s := &service{log: log}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.store, err = openStorage(ctx, c, log); err != nil {
		return nil, err
	}
	options, err := certOptions(c, s.store, log)
	if err != nil {
		return nil, err
	}
	if s.certs, err = certs.Open(ctx, options); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if s.answers, err = bindChallenges(ctx, c); err != nil {
		return nil, err
	}
	if err := s.serve(ctx, c, also); err != nil {
		return nil, err
	}
	s.keepCertificates()
	return s, nil
}

// release gives up what a start has opened, or the end of a service left.
func (s *service) release() {
	s.answers.close()
	if s.certs != nil {
		s.certs.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Warn("storage not closed", zap.Error(err))
		}
	}
}

func (s *service) serve(ctx context.Context, c *config.Config, also []proxy.Observer) error {
	settings, err := tlsSettings(s.certs, c)
	if err != nil {
		return err
	}
	if s.open, err = bind(ctx, c.Listeners); err != nil {
		return err
	}
	s.hostname = hostname(c.Hostname, s.certs.Names())
	s.server = &proxy.Server{
		Observer: append(proxy.MultiObserver{proxy.LogObserver(s.log), &s.counters}, also...),
		Log:      s.log,
	}
	to := backends(c)
	var listeners []proxy.Listener
	for _, b := range s.open {
		listeners = append(listeners, proxy.Listener{
			Name:        b.Name,
			Mode:        modes[b.Mode],
			Net:         b.net,
			TLS:         whenReady(s.certs, settings[b.Name]),
			Backend:     to[b.Backend],
			AcceptProxy: b.AcceptProxy,
			AcceptUnix:  b.AcceptUnix,
		})
	}
	if err := s.server.Apply(proxy.Settings{
		Hostname:  s.hostname,
		Limits:    limits(c.Limits),
		Timeouts:  timeouts(c.Timeouts),
		Listeners: listeners,
	}); err != nil {
		unbind(s.open)
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// keepCertificates looks after the certificates until the service stops.
func (s *service) keepCertificates() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopCerts = cancel
	s.keeping.Go(func() {
		if err := s.certs.Run(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("certificates are no longer looked after", zap.Error(err))
		}
	})
	s.keeping.Go(func() { s.certs.ServeChallenges(ctx, s.answers.http01, s.answers.alpn) })
}

// stop ends the service: no new session, and those that are up end by
// themselves until ctx is done, and then at once. It reports whether all had
// the time they needed.
func (s *service) stop(ctx context.Context) (unhurried bool) {
	err := s.server.Shutdown(ctx)
	s.stopCerts()
	s.keeping.Wait()
	s.release()
	return err == nil
}
