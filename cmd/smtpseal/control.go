package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"smtpseal/admin"
	"smtpseal/config"
)

// This file has the commands that speak to the running process.

// client finds the process of a configuration by its admin listener, and how it
// is. Without a file that is the default one, which `run --domain` has. What is
// wrong with the file is no reason not to find the process: a slip in it must not
// make a liveness probe fail, or a drain.
func (o *origin) client(c *cobra.Command) (*admin.Client, admin.Status, error) {
	for _, a := range config.FindAdmin(o.file) {
		if a.Network == "systemd" { // which knows the address, and we do not
			continue
		}
		client := &admin.Client{Network: a.Network, Addr: a.Addr}
		now, err := client.Status(c.Context())
		if err == nil {
			err = o.isIts(now, a)
		} else if _, bad := o.load(c); bad != nil {
			err = errors.Join(err, bad) // it may be why we looked in the wrong place
		}
		return client, now, err
	}
	return nil, admin.Status{}, advised{errors.New("the configuration has no admin listener that could be asked"),
		"send the process a signal instead: TERM to drain, HUP to reload; or write admin.listen: \"" + config.AdminDefault.Addr + "\""}
}

// isIts refuses a process that runs with another file: a second one on this
// machine has no admin listener where the default address is taken.
func (o *origin) isIts(now admin.Status, at config.Address) error {
	mine, err := filepath.Abs(o.file)
	if err != nil || now.Config == "" || now.Config == mine {
		return nil
	}
	here, err := os.Stat(mine)
	if err != nil {
		return nil // the default file, which is not there
	}
	its, err := os.Stat(now.Config)
	if err != nil || os.SameFile(here, its) {
		return nil // its own view of the disk may be another, in a container
	}
	return advised{fmt.Errorf("the smtpseal on %s runs with %s, not with %s", at, now.Config, mine),
		"name its file with -c; or give the other one an admin.listen of its own"}
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
			client, now, err := from.client(c)
			if err != nil {
				return err
			}
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			return p.drainBy(ctx, client, now)
		},
	}
	from.flags(c)
	return c
}

// drainTime bounds a drain: timeouts.shutdown is an hour at most. drainPoll is
// how often it is looked at.
const (
	drainTime = time.Hour + 15*time.Second
	drainPoll = 200 * time.Millisecond
)

// drainBy asks for a drain and waits until the process is gone.
func (p program) drainBy(ctx context.Context, client *admin.Client, before admin.Status) error {
	if err := client.Drain(ctx); err != nil {
		return err
	}
	progress := newProgress(p.stderr)
	defer progress.end()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for end := time.Now().Add(drainTime); time.Now().Before(end); {
		now, err := client.Status(ctx)
		// An answer that is late, or none of its own, does not mean that it has ended.
		if errors.Is(err, admin.ErrNobody) || err == nil && !now.Started.Equal(before.Started) { // gone, or another one's by now
			progress.end()
			fmt.Fprintln(p.stdout, "drained")
			return nil
		}
		if err == nil {
			progress.show("draining: " + left(sessionsOf(now)))
		}
		select {
		case <-ctx.Done():
			return errors.New("no longer waiting; the drain goes on")
		case <-tick.C:
		}
	}
	return fmt.Errorf("still draining after %s", drainTime)
}

func sessionsOf(s admin.Status) (n int) {
	for _, l := range s.Listeners {
		for _, count := range l.Sessions {
			n += count
		}
	}
	return n
}

func left(sessions int) string {
	if sessions == 1 {
		return "1 session left"
	}
	return fmt.Sprintf("%d sessions left", sessions)
}
