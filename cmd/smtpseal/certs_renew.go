package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (p program) certsRenewCommand() *cobra.Command {
	var from origin
	var all bool
	c := &cobra.Command{
		Use:   "renew [-c FILE] NAME … | renew [-c FILE] --all",
		Short: "Renew certificates now, due or not",
		Long: `renew obtains a new certificate for each NAME at once and stores it. A running
smtpseal with the same storage answers the CA's challenges meanwhile, and serves
the new certificate within 30 seconds; without one, renew answers them itself on
acme.http_listen and acme.tls_alpn_listen.

CAs limit how often: Let's Encrypt issues five times a week for the same name.`,
		Example: "  smtpseal certs renew mail.example.org",
		RunE: func(c *cobra.Command, names []string) error {
			if all == (len(names) > 0) {
				return wrongUsage(c, "renew needs the names of certificates, or --all")
			}
			b, err := p.openCabinet(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			if all {
				names = b.obtained()
			}
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			var failed []error
			for _, name := range names {
				fmt.Fprintf(p.stderr, "renewing %s …\n", name)
				if err := b.Renew(ctx, name); err != nil {
					failed = append(failed, fmt.Errorf("renew %w", err))
					continue
				}
				if renewed, err := b.Served(name); err == nil {
					fmt.Fprintf(p.stdout, "%s: renewed until %s\n", name, renewed.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
				}
			}
			return errors.Join(failed...)
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&all, "all", false, "every certificate that is obtained, one behind the other")
	return c
}

// obtained are the names of the certificates that are not files.
func (b *cabinet) obtained() (names []string) {
	seen := map[string]bool{}
	for _, one := range b.Certificates() {
		if one.Name != "" && !seen[one.Name] {
			seen[one.Name] = true
			names = append(names, one.Name)
		}
	}
	return names
}
