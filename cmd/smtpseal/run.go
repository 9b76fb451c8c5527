package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/config"
)

func (p program) runCommand() *cobra.Command {
	var from origin
	c := &cobra.Command{
		Use:     "run [-c FILE] | run --domain NAME --backend HOST:PORT [--email ADDRESS]",
		Short:   "Serve",
		GroupID: "serve",
		Long: `run serves until it is told to stop: with a configuration file, or without one
for a domain and a mail server named on the command line, on 465 and 587. The
certificate then comes by ACME from Let's Encrypt, which asks for it on port 80
or 443 of the domain; localhost has one from the internal CA.

TERM or INT drains: no new sessions, idle ones are sent away with a 421, mail
on its way is finished, for at most timeouts.shutdown. A second one ends at
once. HUP reads the certificate files again.`,
		Example: `  smtpseal run -c /etc/smtpseal/smtpseal.yaml
  smtpseal run --domain mail.example.org --backend 127.0.0.1:10025 --proxy-protocol v2 --email postmaster@example.org
  smtpseal run --domain localhost --backend 127.0.0.1:10025 --proxy-protocol v2`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := from.load(c)
			if err != nil {
				return err
			}
			return p.serve(c.Context(), settings)
		},
	}
	from.flags(c)
	from.quickFlags(c)
	return c
}

// serve runs a configuration until a signal ends it.
func (p program) serve(ctx context.Context, c *config.Config) error {
	out := p.stderr
	if !isTerminal(out) {
		gathered := newLogBuffer(out)
		defer gathered.Stop()
		out = gathered
	}
	log, err := newLog(out, c.Log)
	if err != nil {
		return err
	}
	restore, err := zap.RedirectStdLogAt(log, zap.WarnLevel)
	if err != nil {
		return err
	}
	defer restore()
	signals, release := p.signals()
	defer release()

	began := time.Now()
	starting(log, c)
	warnOfDescriptors(log, c.Limits.MaxSessions)
	s, err := startUnlessStopped(ctx, signals, func(ctx context.Context) (*service, error) { return start(ctx, c, log) })
	if errors.Is(err, errStopped) {
		log.Info("stopped before it was ready")
		return nil
	}
	if err != nil {
		return err
	}
	defer tidying()()
	log.Info("ready", zap.String("hostname", s.hostname), zap.Strings("addresses", addresses(s.open)))
	for _, problem := range s.certs.Problems() {
		log.Warn("certificate missing or not renewed", zap.String("problem", problem))
	}
	log.Sync() // who waits for that line should not wait longer

	s.untilSignal(signals)
	log.Info("draining", zap.Duration("at_most", c.Timeouts.Shutdown))
	s.drain(signals, c.Timeouts.Shutdown)
	stopped(log, time.Since(began), s.counters.Totals())
	return nil
}
