package main

import (
	"context"
	"time"

	"smtpseal/certs"
)

// A rollLine is a change of a certificate's key that is under way.
type rollLine struct {
	Phase   certs.RollPhase `json:"phase"`
	Started *time.Time      `json:"started,omitempty"`
	Waiting string          `json:"waiting"` // for what
}

// rolls tells whether any key may be being changed: with a thousand certificates
// it is one question in place of thousands. A storage that is away has been told
// of already.
func (b *cabinet) rolls(ctx context.Context) bool {
	if b.store == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, _ := b.store.List(ctx, "roll", false)
	return len(found) > 0
}

// rollLine says how far the change of a key is; nil: there is none.
func (b *cabinet) rollLine(ctx context.Context, one certs.Certificate) *rollLine {
	r, err := b.Roll(one.Name, one.KeyType)
	if err != nil {
		return &rollLine{Waiting: err.Error()}
	}
	if begun, err := r.Begun(ctx); err == nil && !begun {
		return nil
	}
	var state certs.RollState
	if err = r.Resume(ctx); err == nil {
		state, err = r.State(ctx)
	}
	line := &rollLine{Phase: state.Phase, Started: known(state.Started)}
	next := "; go on with: smtpseal certs roll " + one.Name
	if b.severalTypes(one.Name) {
		next += " --key-type " + one.KeyType
	}
	switch {
	case err != nil:
		line.Waiting = err.Error()
	case state.Phase == certs.RollNone:
		return nil
	case state.Phase == certs.RollSwitched:
		line.Waiting = "it has the next one, and the old TLSA record may go" + next
	default:
		line.Waiting = "it may be switched now" + next
		if err := state.MaySwitch(time.Now()); err != nil {
			line.Waiting = err.Error() + next
		}
	}
	return line
}

// severalTypes tells whether a name has certificates with several types of key.
func (b *cabinet) severalTypes(name string) bool {
	n := 0
	for _, one := range b.Certificates() {
		if one.Name == name {
			n++
		}
	}
	return n > 1
}
