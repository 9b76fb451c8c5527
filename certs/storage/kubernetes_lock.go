package storage

import (
	"context"
	"fmt"
	"time"

	coordination "k8s.io/api/coordination/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A lock is a Lease. That its owner is dead is seen by watching, as client-go's
// leader election does: when we ourselves have seen it unchanged for as long as
// its owner promised to refresh it in. The time in it was written by another
// machine's clock, and is compared with nothing but itself.
const (
	lockKind = "lock-" // in names of Leases

	// maxLease bounds how long a Lease that somebody has made can keep us away.
	maxLease = 10 * time.Minute
)

// acquire never waits: what another changes at the same moment is another's.
func (k *kubernetes) acquire(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	held, err := k.lease(ctx, name)
	if err != nil {
		return false, err
	}
	if held == nil {
		held = &coordination.Lease{ObjectMeta: meta.ObjectMeta{
			Name: k.name(lockKind, name), Labels: k.selected(""), Annotations: map[string]string{keyAnnotation: readable(name)}}}
		own(held, token, lease)
		_, err = k.leases.Create(ctx, held)
		return k.took("create", err)
	}
	if !k.free(name, token, held, lease) {
		return false, nil
	}
	own(held, token, lease)
	_, err = k.leases.Update(ctx, held)
	return k.took("update", err)
}

// took reports whether an attempt succeeded; that another was faster is no
// error.
func (k *kubernetes) took(verb string, err error) (bool, error) {
	if passedBy(err) {
		return false, nil
	}
	return err == nil, k.explain(verb, "leases", err)
}

// own makes a Lease token's from now.
func own(lease *coordination.Lease, token string, term time.Duration) {
	now := meta.NowMicro()
	spec := &lease.Spec
	if spec.HolderIdentity == nil || *spec.HolderIdentity != token {
		transitions := int32(0)
		if spec.LeaseTransitions != nil {
			transitions = *spec.LeaseTransitions + 1
		}
		spec.HolderIdentity, spec.AcquireTime, spec.LeaseTransitions = &token, &now, &transitions
	}
	seconds := int32((term + time.Second - 1) / time.Second) // the API knows whole ones, at least one
	spec.LeaseDurationSeconds, spec.RenewTime = &seconds, &now
}

// free reports whether token may take a Lease: nobody has it, token has it, or
// whoever has it is dead.
func (k *kubernetes) free(name, token string, held *coordination.Lease, term time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	holder := holderOf(held)
	if holder == "" || holder == token {
		delete(k.seen, name)
		return true
	}
	now := sighting{token: holder, since: time.Now()}
	if renewed := held.Spec.RenewTime; renewed != nil {
		now.contents = renewed.UTC().Format(time.RFC3339Nano)
	}
	before, known := k.seen[name]
	if !known || before.token != now.token || before.contents != now.contents {
		if len(k.seen) >= maxSeen {
			clear(k.seen) // costs a lease of waiting, once
		}
		k.seen[name] = now
		return false
	}
	if s := held.Spec.LeaseDurationSeconds; s != nil && *s > 0 {
		term = min(time.Duration(*s)*time.Second, maxLease)
	}
	return time.Since(before.since) > term
}

func (k *kubernetes) refresh(ctx context.Context, name, token string, lease time.Duration) (ours bool, err error) {
	err = again(ctx, func() error {
		held, err := k.lease(ctx, name)
		if ours = holderOf(held) == token; err != nil || !ours {
			return err
		}
		own(held, token, lease)
		_, err = k.leases.Update(ctx, held)
		return k.explain("update", "leases", err)
	})
	return ours && err == nil, err
}

// release deletes the Lease as it was when it was ours, or not at all.
func (k *kubernetes) release(ctx context.Context, name, token string) (ours bool, err error) {
	err = again(ctx, func() error {
		held, err := k.lease(ctx, name)
		if ours = holderOf(held) == token; err != nil || !ours {
			return err
		}
		unchanged := &meta.Preconditions{UID: &held.UID, ResourceVersion: &held.ResourceVersion}
		err = k.leases.Delete(ctx, held.Name, unchanged)
		return k.explain("delete", "leases", err)
	})
	return ours && err == nil, err
}

// lease returns nil if there is none.
func (k *kubernetes) lease(ctx context.Context, name string) (*coordination.Lease, error) {
	held, err := k.leases.Get(ctx, k.name(lockKind, name))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, k.explain("get", "leases", err)
	}
	if held.Labels[managedBy] != "smtpseal" {
		return nil, fmt.Errorf("the Lease %s is not smtpseal's: remove it, or set another storage.prefix", held.Name)
	}
	return held, nil
}

func holderOf(lease *coordination.Lease) string {
	if lease == nil || lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}
