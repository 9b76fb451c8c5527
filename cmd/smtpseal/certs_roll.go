package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"crypto"

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
it has done is in the storage, so it can be interrupted at any time.`,
		Example: `  smtpseal certs roll mail.example.org
  smtpseal certs roll mail.example.org --publish --wait`,
		Args: oneArgument("the name of a certificate"),
		RunE: func(c *cobra.Command, names []string) error {
			b, err := p.openCabinet(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			r.program, r.cabinet = p, b
			if r.Roll, err = b.Source.Roll(names[0], keyType); err != nil {
				return err
			}
			if r.Hosts = hosts; len(ports) == 0 {
				ports = publicPorts(b.config.Listeners)
			}
			r.Ports = ports
			if err := r.findZone(); err != nil {
				return err
			}
			if abandon {
				return r.abandon(ctx)
			}
			return r.roll(ctx)
		},
	}
	from.flags(c)
	c.Flags().StringVar(&keyType, "key-type", "", "`TYPE` of the key, where the name has several: p256, p384, rsa2048, rsa4096")
	c.Flags().IntSliceVar(&ports, "port", nil, "`PORT`s of the records, in place of those that are served")
	c.Flags().StringSliceVar(&hosts, "host", nil, "`HOST`s of the records, in place of NAME: the MX hosts of a wildcard")
	c.Flags().BoolVar(&r.publish, "publish", false, "publish and remove the records by acme.dns")
	c.Flags().DurationVar(&r.ttl, "ttl", time.Hour, "TTL of published records")
	c.Flags().BoolVar(&r.wait, "wait", false, "wait until the next step can be done, to the end")
	c.Flags().BoolVar(&abandon, "abandon", false, "forget the next key")
	return c
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

func (r *roller) abandon(ctx context.Context) error {
	remove, err := r.Abandon(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(r.stdout, "the next key is forgotten; the key in use stays")
	r.print("remove these records:", remove)
	return nil
}

// roll goes on from where the last call came to.
func (r *roller) roll(ctx context.Context) error {
	state, err := r.State(ctx)
	if err != nil {
		return err
	}
	if state.Phase == certs.RollSwitched { // a call before this one came so far
		return r.finish(ctx, state)
	}
	if state, err = r.Begin(ctx); err != nil {
		return err
	}
	if r.publish {
		if state, err = r.Publish(ctx, r.ttl); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	} else {
		r.print("these records must be in DNS now:", state.Publish)
	}
	for {
		state, err = r.step(ctx)
		if err == nil || !r.wait || ctx.Err() != nil {
			break
		}
		fmt.Fprintf(r.stderr, "%s  %v\n", time.Now().Format(time.TimeOnly), err)
		select {
		case <-ctx.Done():
		case <-time.After(r.pause(state)):
		}
	}
	if err != nil {
		return advised{err, "run this again later; --wait does so by itself"}
	}
	return r.finish(ctx, state)
}

// pause is how long to wait before the next look: as long as the TTLs say, but
// a server that lags behind may catch up at any time.
func (r *roller) pause(state certs.RollState) time.Duration {
	left := time.Until(state.Seen.Add(2 * state.TTL))
	return min(max(left, time.Second), 30*time.Second)
}

// step looks, and switches if that is allowed.
func (r *roller) step(ctx context.Context) (certs.RollState, error) {
	state, err := r.Check(ctx)
	if err == nil {
		err = state.MaySwitch(time.Now())
	}
	if err != nil {
		return state, err
	}
	return r.Switch(ctx, func(ctx context.Context, key crypto.Signer) error { return r.cabinet.IssueWith(ctx, r.Roll, key) })
}

// finish sees to the old record, once the certificate has the next key.
func (r *roller) finish(ctx context.Context, state certs.RollState) error {
	fmt.Fprintf(r.stdout, "%s has its next key: %s\n", r.Name, state.Current)
	if r.wait {
		fmt.Fprintln(r.stderr, "waiting until every replica serves it")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(state.Switched.Add(65 * time.Second))):
		}
	}
	var err error
	if r.publish {
		state, err = r.Publish(ctx, r.ttl)
	} else {
		state, err = r.Check(ctx)
	}
	if err == nil && state.Phase == certs.RollNone {
		fmt.Fprintln(r.stdout, "no old record is left: the roll-over is done")
		return nil
	}
	r.print("from a minute after the switch on, when every replica serves the new key, these records can go:", state.Remove)
	if err == nil {
		err = errors.New("the old record is still in DNS")
	}
	return advised{err, "run this again later"}
}

func (r *roller) print(title string, records []certs.TLSARecord) {
	if len(records) == 0 {
		return
	}
	fmt.Fprintln(r.stdout, title)
	for _, one := range records {
		fmt.Fprintf(r.stdout, "  %s\n", one)
	}
}
