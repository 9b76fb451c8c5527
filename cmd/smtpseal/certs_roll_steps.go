package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"smtpseal/certs"
)

// rollSpread is how long replicas may take to serve the new key, and a little.
const rollSpread = 65 * time.Second

// abandon takes the places that are remembered, and hosts if there are none.
func (r *roller) abandon(ctx context.Context, hosts []string) error {
	begun, err := r.Begun(ctx)
	if err == nil && !begun {
		r.Hosts = []string{"host.invalid"} // no record stands anywhere
		_, err = r.Abandon(ctx)            // of a key that a crash has left
		fmt.Fprintf(r.stdout, "no roll-over of %s is under way: there is nothing to abandon\n", r.Name)
		return err
	}
	if err := r.places(ctx); err != nil {
		return err
	}
	if len(r.Hosts) == 0 {
		r.Hosts = hosts
	}
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
	if state, err = r.await(ctx, state); err != nil {
		return advised{err, "run this again later; --wait does so by itself"}
	}
	return r.finish(ctx, state)
}

// step looks, and switches if that is allowed. ordered tells whether the CA was
// asked.
func (r *roller) step(ctx context.Context) (state certs.RollState, ordered bool, err error) {
	state, err = r.Check(ctx)
	if err == nil {
		err = state.MaySwitch(time.Now())
	}
	if err != nil {
		return state, false, err
	}
	state, err = r.Switch(ctx, func(ctx context.Context, key crypto.Signer) error {
		ordered = true
		return r.issue(ctx, r.Roll, key)
	})
	return state, ordered, err
}

// finish sees to the old record, once the certificate has the next key.
func (r *roller) finish(ctx context.Context, state certs.RollState) error {
	fmt.Fprintf(r.stdout, "%s has its next key: %s\n", r.Name, state.Current)
	if r.wait {
		fmt.Fprintf(r.stderr, "waiting until every replica serves it: %v\n", until(state.Switched.Add(rollSpread)))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(state.Switched.Add(rollSpread))):
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
