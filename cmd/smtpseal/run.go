package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/cmd/smtpseal/upgrade"
	"smtpseal/config"
)

func (p program) runCommand() *cobra.Command {
	var from origin
	c := &cobra.Command{
		Use:     "run [-c FILE] | run --domain NAME --backend HOST:PORT [--proxy-protocol VERSION] [--email ADDRESS]",
		Short:   "Serve",
		GroupID: "serve",
		Long: `run serves until it is told to stop: with a configuration file, or without one
for a domain and a mail server named on the command line, on 465 and 587. The
certificate then comes by ACME from Let's Encrypt, which asks for it on port 80
or 443 of the domain; localhost has one from the internal CA.

TERM or INT drains: no new sessions, idle ones are sent away with a 421, mail
on its way is finished, for at most timeouts.shutdown. A second one ends at
once. HUP, or smtpseal reload, reads configuration and certificates again; a bad
file changes nothing. USR2 starts the program anew, as its file is now, hands
it the listening sockets and drains: no connection is refused meanwhile.
Windows has no HUP and no USR2: smtpseal reload works there, a new version takes
a restart. Readiness and sockets of systemd are for Linux.`,
		Example: `  smtpseal run -c /etc/smtpseal/smtpseal.yaml
  smtpseal run --domain mail.example.org --backend 127.0.0.1:10025 --proxy-protocol v2 --email postmaster@example.org
  smtpseal run --domain localhost --backend 127.0.0.1:10025 --proxy-protocol v2`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			return p.serve(c.Context(), source{
				load: func() (*config.Config, error) { return from.load(c) },
				file: func() string { return from.file },
			})
		},
	}
	from.flags(c)
	from.quickFlags(c)
	return c
}

// serve runs a configuration until it is asked to end.
func (p program) serve(ctx context.Context, from source) error {
	inherited, err := upgrade.Inherit()
	if err != nil {
		return fmt.Errorf("sockets given to this process: %w", err)
	}
	c, err := from.load()
	if err != nil {
		return err
	}
	out := p.stderr
	if !isTerminal(out) {
		gathered := newLogBuffer(out)
		defer gathered.Stop()
		out = gathered
	}
	log, relevel, err := newLiveLog(out, c.Log)
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
	around := outside{log: log, relevel: relevel, from: from, inherited: inherited}
	s, err := startUnlessStopped(ctx, signals, func(ctx context.Context) (*service, error) { return start(ctx, c, around) })
	if errors.Is(err, errStopped) {
		log.Info("stopped before it was ready")
		return nil
	}
	if err != nil {
		return err
	}
	defer tidying()()
	s.ready()
	bySignal := s.untilAsked(signals)
	within := s.now.Load().config.Timeouts.Shutdown
	log.Info("draining", zap.Int("pid", os.Getpid()), zap.Int("sessions", s.server.Sessions()), zap.Duration("at_most", within))
	s.drain(signals, bySignal, within)
	stopped(log, time.Since(began), s.counters.Totals())
	return nil
}

// ready says so to all who wait for it.
func (s *service) ready() {
	open := s.now.Load().sockets
	s.log.Info("ready", zap.String("hostname", s.now.Load().hostname), zap.Strings("addresses", open.addresses()), zap.Strings("admin", open.addressesFor(forAdmin)))
	if open.lost != nil {
		s.log.Warn("no admin listener: its default address is taken; write another as admin.listen, or off", zap.Error(open.lost))
	}
	for _, problem := range s.now.Load().keeping.source.Problems() {
		s.log.Warn("certificate missing or not renewed", zap.String("problem", problem))
	}
	s.log.Sync() // who waits for that line should not wait longer
	s.tellSystemd()
}
