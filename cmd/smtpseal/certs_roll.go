package main

import (
	"context"
	"crypto"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/dns"
)

// A roller is one run of `certs roll`.
type roller struct {
	program
	*certs.Roll
	cabinet *cabinet
	issue   func(context.Context, *certs.Roll, crypto.Signer) error
	publish bool
	wait    bool
	ttl     time.Duration
}

func (p program) certsRollCommand() *cobra.Command {
	var from origin
	var r roller
	var keyType string
	var ports []int
	var hosts []string
	var abandon bool
	c := &cobra.Command{
		Use:   "roll [-c FILE] NAME",
		Short: "Change the key of a certificate without breaking DANE",
		Long: `roll changes the key of NAME's certificate in steps (RFC 7671 section 8), and
does with each call what can be done now:

  1. it makes the next key and prints the TLSA records of both, to be published
     beside each other (with --publish it does so itself, by acme.dns);
  2. it looks whether every authoritative server has the next record, and refuses
     to go on before all have had it for two TTLs;
  3. it renews the certificate with the next key, and says which record to remove.

Call it again until it says that the roll-over is done, or let it --wait. What
it has done is in the storage, hosts and ports, too, so it can be interrupted at
any time and gone on with by smtpseal certs roll NAME alone. smtpseal certs list
shows how far it is.`,
		Example: `  smtpseal certs roll mail.example.org
  smtpseal certs roll mail.example.org --publish --wait`,
		Args: oneArgument("the name of a certificate"),
		RunE: func(c *cobra.Command, names []string) error {
			if err := checkPorts(c, ports); err != nil {
				return err
			}
			b, err := p.openCabinet(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			r.program, r.cabinet, r.issue = p, b, b.IssueWith
			if r.Roll, err = b.Source.Roll(names[0], keyType); err != nil {
				return err
			}
			if abandon {
				return r.abandon(ctx, hosts)
			}
			r.Hosts, r.Ports = hosts, ports
			if err := errors.Join(r.places(ctx), r.findZone()); err != nil {
				return err
			}
			return r.roll(ctx)
		},
	}
	from.flags(c)
	c.Flags().StringVar(&keyType, "key-type", "", "`TYPE` of the key, where the name has several: p256, p384, rsa2048, rsa4096")
	c.Flags().IntSliceVar(&ports, "port", nil, "`PORT`s of the records, in place of those that are served; remembered")
	c.Flags().StringSliceVar(&hosts, "host", nil, "`HOST`s of the records, in place of NAME: the MX hosts of a wildcard; remembered")
	c.Flags().BoolVar(&r.publish, "publish", false, "publish and remove the records by acme.dns")
	c.Flags().DurationVar(&r.ttl, "ttl", time.Hour, "TTL of published records")
	c.Flags().BoolVar(&r.wait, "wait", false, "wait until the next step can be done, to the end")
	c.Flags().BoolVar(&abandon, "abandon", false, "forget the next key")
	return c
}

// places are where the records stand: as named now, or as the roll-over was begun
// with, or those that are served.
func (r *roller) places(ctx context.Context) error {
	err := r.Resume(ctx)
	if len(r.Ports) == 0 {
		r.Ports = publicPorts(r.cabinet.config.Listeners)
	}
	return err
}

// findZone prepares to look at the records, and to publish them if asked to.
func (r *roller) findZone() error {
	settings := r.cabinet.config.ACME.DNS
	o := dns.Options{Resolvers: settings.Resolvers, Log: zap.NewNop()}
	if r.publish {
		if settings.Provider == "" {
			return advised{errors.New("--publish: no DNS provider"), "configure acme.dns, or publish the records yourself"}
		}
		provider, err := dnsProvider(settings, zap.NewNop())
		if err != nil {
			return err
		}
		o.Provider = provider
	}
	zone, err := dns.NewTLSA(o)
	if err != nil {
		return err
	}
	r.Zone = zone
	return nil
}
