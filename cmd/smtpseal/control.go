package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"smtpseal/admin"
	"smtpseal/config"
)

// This file has the commands that speak to the running process.

// client finds the admin listener of a configuration. Without a file it is the
// default one, which `run --domain` has.
func (o *origin) client(c *cobra.Command) (*admin.Client, *config.Config, error) {
	if _, err := os.Stat(o.file); errors.Is(err, fs.ErrNotExist) && !c.Flags().Changed("config") {
		return &admin.Client{Network: "tcp", Addr: config.AdminDefault.Addr}, nil, nil
	}
	settings, err := o.load(c)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range settings.Admin.Listen {
		if a.Network != "systemd" { // which knows the address, and we do not
			return &admin.Client{Network: a.Network, Addr: a.Addr}, settings, nil
		}
	}
	return nil, nil, advised{errors.New("the configuration has no admin listener that could be asked"),
		"send the process a signal instead: TERM to drain, HUP to reload; or write admin.listen: \"" + config.AdminDefault.Addr + "\""}
}

func (p program) reloadCommand() *cobra.Command {
	var from origin
	var asJSON bool
	c := &cobra.Command{
		Use:     "reload [-c FILE]",
		Short:   "Make the running smtpseal read its configuration again",
		GroupID: "serve",
		Long: `reload asks the running smtpseal, through its admin listener, to read its
configuration and certificates again, and says what came of it. A bad file, or an
address that cannot be opened, changes nothing and is the exit code 1. No session
ends: each keeps what it began with.`,
		Example:           "  smtpseal reload\n  smtpseal reload -c smtpseal.yaml --json",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			client, _, err := from.client(c)
			if err != nil {
				return err
			}
			result := admin.Reload{Time: time.Now(), Result: "ok"}
			if err = client.Reload(c.Context()); err != nil {
				result.Result, result.Error = "failed", err.Error()
			}
			switch {
			case asJSON && err != nil:
				return errors.Join(p.printJSON(result), errSaid)
			case asJSON:
				return p.printJSON(result)
			case err != nil:
				return fmt.Errorf("not reloaded, what was before stays in effect: %w", err)
			}
			fmt.Fprintln(p.stdout, "reloaded")
			return nil
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return c
}

func (p program) drainCommand() *cobra.Command {
	var from origin
	c := &cobra.Command{
		Use:     "drain [-c FILE]",
		Short:   "Let the running smtpseal finish its sessions and end",
		GroupID: "serve",
		Long: `drain asks the running smtpseal, through its admin listener, to take no more
sessions, to send idle ones away with a 421, to finish mail on its way and to end;
and waits until it has. It takes timeouts.shutdown at most.

It is what a Kubernetes preStop hook runs: exec: [smtpseal, drain].`,
		Example:           "  smtpseal drain\n  smtpseal drain -c smtpseal.yaml",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			client, settings, err := from.client(c)
			if err != nil {
				return err
			}
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			within := time.Hour // no shutdown takes longer
			if settings != nil {
				within = settings.Timeouts.Shutdown
			}
			return p.drainBy(ctx, client, within+drainGrace)
		},
	}
	from.flags(c)
	return c
}

// drainGrace is what an end may take beside its sessions, drainPoll how often it
// is looked at.
const (
	drainGrace = 15 * time.Second
	drainPoll  = 200 * time.Millisecond
)

// drainBy asks for a drain and waits until the process is gone.
func (p program) drainBy(ctx context.Context, client *admin.Client, within time.Duration) error {
	before, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if err := client.Drain(ctx); err != nil {
		return err
	}
	progress := newProgress(p.stderr)
	defer progress.end()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); {
		now, err := client.Status(ctx)
		// An answer that is late, or none of its own, does not mean that it has ended.
		if errors.Is(err, admin.ErrNobody) || err == nil && !now.Started.Equal(before.Started) { // gone, or another one's by now
			progress.end()
			fmt.Fprintln(p.stdout, "drained")
			return nil
		}
		if err == nil {
			progress.show(fmt.Sprintf("draining: %d sessions left", sessionsOf(now)))
		}
		select {
		case <-ctx.Done():
			return errors.New("no longer waiting; the drain goes on")
		case <-tick.C:
		}
	}
	return fmt.Errorf("still draining after %s", within)
}

func sessionsOf(s admin.Status) (n int) {
	for _, l := range s.Listeners {
		for _, count := range l.Sessions {
			n += count
		}
	}
	return n
}
