package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"smtpseal/admin"
)

// statusCommand is also what a container without a shell or curl in it asks for
// its health.
func (p program) statusCommand() *cobra.Command {
	var from origin
	var asJSON, live bool
	c := &cobra.Command{
		Use:     "status [-c FILE] [--live] [--json]",
		Short:   "Say whether the running smtpseal is ready for clients",
		GroupID: "serve",
		Long: `status asks the running smtpseal, through its admin listener, how it is: one
sentence, and on standard error what is wrong and what to do: each reason why it
should get no new clients, servers that are down, certificates that need a look,
a backend that may be an open relay, a reload or an upgrade that failed, and the
last failures, three at most. If all is well there is nothing. The exit code is 0
if it is ready, else 1, also if nobody answers within 5 s.

With --live any answer is good enough. That is for whoever restarts what fails: a
mail server that is down is no better for a restart of smtpseal.`,
		Example:           "  smtpseal status\n  smtpseal status -c smtpseal.yaml --json",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			_, now, err := from.client(c)
			if err != nil {
				return err
			}
			return p.tellStatus(now, live, asJSON)
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&live, "live", false, "exit with 0 also if it is not ready")
	c.Flags().BoolVar(&asJSON, "json", false, "print all that the status page knows, as JSON")
	return c
}

// tellStatus prints an answer; one that is not good enough is an error.
func (p program) tellStatus(now admin.Status, live, asJSON bool) error {
	if asJSON {
		if err := p.printJSON(now); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(p.stdout, now.Headline)
		tellTroubles(p.stderr, now)
	}
	if now.Ready || live {
		return nil
	}
	if len(now.Reasons) == 0 && !asJSON {
		return errors.New("not ready: it is " + string(now.State))
	}
	return errSaid
}
