package certs

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Switch has a certificate issued for the next key and returns a state that
// says which record to remove. It looks at the zone once more and refuses as
// MaySwitch does. issue gets the key and returns when the new certificate is
// in the storage; whatever it returns, what counts is the certificate that is
// there then. When issue fails the key in use stays, and Switch can be called
// again. After a switch it does nothing, and says the same.
func (r *Roll) Switch(ctx context.Context, issue func(ctx context.Context, key crypto.Signer) error) (RollState, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return RollState{}, err
	}
	defer unlock()
	rec, err := r.read(ctx)
	if err != nil {
		return RollState{}, err
	}
	if rec.phase() == RollStaged {
		if rec, err = r.allowed(ctx, rec); err != nil {
			return r.state(rec), fmt.Errorf("switch: %w", err)
		}
		if rec, err = r.issue(ctx, rec, issue); err != nil {
			return r.state(rec), fmt.Errorf("switch: %w", err)
		}
	}
	if rec.phase() != RollSwitched {
		return r.state(rec), fmt.Errorf("switch: %w", r.state(rec).MaySwitch(time.Now()))
	}
	if rec.Switched.IsZero() {
		if err := r.finish(ctx, &rec); err != nil {
			return r.state(rec), fmt.Errorf("the certificate has the next key; this was not written down, so switch again: %w", err)
		}
	}
	return r.state(rec), nil
}

// allowed looks once more, under the lock, so that nothing is between the look
// and the switch.
func (r *Roll) allowed(ctx context.Context, rec rollRecord) (rollRecord, error) {
	v, err := r.Look(ctx)
	if err != nil {
		return rec, err
	}
	rec.observe(v, r.log())
	if err := r.write(ctx, rec); err != nil {
		return rec, err
	}
	return rec, r.state(rec).MaySwitch(time.Now())
}

func (r *Roll) issue(ctx context.Context, rec rollRecord, issue func(context.Context, crypto.Signer) error) (rollRecord, error) {
	rec.outdate(rec.current)
	if err := r.write(ctx, rec); err != nil { // which record to remove is known before it can be
		return rec, err
	}
	issued := issue(ctx, rec.key)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollFinish)
	defer cancel()
	cert, err := r.Current(ctx)
	switch {
	case err == nil && hasKey(cert, rec.key.Public()):
		rec.current = rec.Next
		if issued != nil {
			r.log().Warn("issuance ended with an error, but the certificate has the next key", zap.Error(issued))
		}
		return rec, nil
	case issued != nil:
		return rec, fmt.Errorf("issue: %w: the key in use stays", issued)
	case err != nil:
		return rec, fmt.Errorf("certificate: %w", err)
	}
	return rec, errors.New("the newest certificate does not have the next key: the key in use stays")
}

// finish writes down that the switch was made, and then forgets the copy of
// the key: the certificate's is the one that counts.
func (r *Roll) finish(ctx context.Context, rec *rollRecord) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollFinish)
	defer cancel()
	rec.Switched, rec.Missing = time.Now(), nil
	if err := r.write(ctx, *rec); err != nil {
		rec.Switched = time.Time{}
		return err
	}
	if err := r.Storage.Delete(ctx, r.file("next.key")); err != nil {
		r.log().Warn("copy of the key in use not deleted", zap.Error(err))
	}
	return nil
}
