package main

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/config"
	"smtpseal/proxy"
)

// A service is smtpseal at work: certificates that are kept fresh, and
// listeners that are served.
type service struct {
	log      *zap.Logger
	certs    *certs.Source
	server   *proxy.Server
	counters proxy.Counters
	open     []bound

	stopCerts func()
	keeping   sync.WaitGroup
}

// start brings everything up. All addresses are open before the first of them
// is served; on an error nothing is left behind. Who starts a service ends it
// with stop. Beside the log and the counters, also is told of each session.
func start(ctx context.Context, c *config.Config, log *zap.Logger, also ...proxy.Observer) (*service, error) {
	source, err := certs.Open(ctx, certOptions(c, log))
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	s := &service{log: log, certs: source}
	if err := s.serve(ctx, c, also); err != nil {
		source.Close()
		return nil, err
	}
	s.keepCertificates()
	return s, nil
}

func (s *service) serve(ctx context.Context, c *config.Config, also []proxy.Observer) error {
	settings, err := tlsSettings(s.certs, c)
	if err != nil {
		return err
	}
	if s.open, err = bind(ctx, c.Listeners); err != nil {
		return err
	}
	s.server = &proxy.Server{
		Hostname: hostname(c.Hostname, s.certs.Names()),
		Limits:   limits(c.Limits),
		Timeouts: timeouts(c.Timeouts),
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
	if err := s.server.Apply(listeners); err != nil {
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
}

// stop ends the service: no new session, and those that are up end by
// themselves until ctx is done, and then at once. It reports whether all had
// the time they needed.
func (s *service) stop(ctx context.Context) (unhurried bool) {
	err := s.server.Shutdown(ctx)
	s.stopCerts()
	s.keeping.Wait()
	return err == nil
}
