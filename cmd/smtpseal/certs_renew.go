package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"smtpseal/certs"
	"smtpseal/config"
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
acme.http_listen and acme.tls_alpn_listen, and says so if it cannot open them.
Nothing is ordered if one of the names is unknown.

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
			if err := b.canRenew(names); err != nil { // before anything is ordered
				return err
			}
			for _, note := range b.takenPorts(c.Context(), names) {
				fmt.Fprintf(p.stderr, "note: %s\n", note)
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

func (b *cabinet) canRenew(names []string) error {
	var unknown []error
	for _, name := range names {
		if err := b.CanRenew(name); err != nil {
			unknown = append(unknown, fmt.Errorf("renew: %w", err))
		}
	}
	return errors.Join(unknown...)
}

// takenPorts says which ports of the challenges cannot be opened here, if one of
// the names is by ACME. That is as it should be where smtpseal runs; else the CA
// is answered by somebody who does not know what to say.
func (b *cabinet) takenPorts(ctx context.Context, names []string) (notes []string) {
	if !slices.ContainsFunc(b.Certificates(), func(one certs.Certificate) bool {
		return one.Source == "acme" && slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, one.Name) })
	}) {
		return nil
	}
	look := func(challenge string, addresses []config.Address) {
		for _, addr := range addresses {
			if addr.Network != "tcp" || !slices.Contains(b.config.ACME.Challenges, challenge) {
				continue
			}
			l, err := listen(ctx, addr)
			if err != nil {
				notes = append(notes, noteTaken(challenge, addr, err))
				continue
			}
			l.Close() // it is opened again when the CA has been asked
		}
	}
	look("http-01", b.config.ACME.HTTPListen)
	look("tls-alpn-01", b.config.ACME.TLSALPNListen)
	return notes
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
