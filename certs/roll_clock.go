package certs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Visible is what the zone's servers showed at one look.
type Visible struct {
	At     time.Time     // when the last of them had answered
	TTL    time.Duration // the largest
	Sights []Sight
}

// A Sight is what one server says of one name.
type Sight struct {
	Name, Server string
	TLSAAnswer
}

// Look asks the servers of the zone for the records of every name.
func (r *Roll) Look(ctx context.Context) (Visible, error) {
	if r.Zone == nil {
		return Visible{}, fmt.Errorf("roll %s: look: no way to ask the zone's servers", r.Name)
	}
	names, err := r.names()
	if err != nil {
		return Visible{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, rollLook)
	defer cancel()
	var v Visible
	heard := false
	for _, name := range names {
		servers, ttl, err := r.Zone.TLSA(ctx, name)
		if err != nil {
			return Visible{}, fmt.Errorf("roll %s: look at %s: %w", r.Name, name, err)
		}
		v.TTL = max(v.TTL, min(ttl, rollTTL))
		for server, answer := range servers {
			heard = heard || answer.Err == nil
			v.Sights = append(v.Sights, Sight{name, server, answer})
		}
	}
	if !heard {
		return Visible{}, fmt.Errorf("roll %s: look: no server of the zone answers: %s", r.Name, strings.Join(v.lacking(""), ", "))
	}
	slices.SortFunc(v.Sights, func(a, b Sight) int { return strings.Compare(a.Name+" "+a.Server, b.Name+" "+b.Server) })
	v.At = time.Now()
	return v, nil
}

// lacking are the servers that do not show a record. Who does not answer us
// may answer others, with anything.
func (v Visible) lacking(data string) []string {
	var missing []string
	for _, s := range v.Sights {
		switch {
		case s.Err != nil:
			missing = append(missing, fmt.Sprintf("%s says nothing about %s: %v", s.Server, s.Name, s.Err))
		case !s.holds(data):
			missing = append(missing, fmt.Sprintf("%s lacks %s", s.Server, s.Name))
		}
	}
	return missing
}

func (s Sight) holds(data string) bool {
	return slices.ContainsFunc(s.Records, func(record string) bool { return strings.EqualFold(record, data) })
}

// Check looks at the zone and writes down what it saw. An operator calls it
// until MaySwitch has no objection, or does it by hand: `dig` and patience.
func (r *Roll) Check(ctx context.Context) (RollState, error) {
	v, err := r.Look(ctx)
	if err != nil {
		return RollState{}, err
	}
	return r.Observe(ctx, v)
}

// Observe writes down what a look has shown. The first at which every server
// had the next record starts the clock, any that misses it stops it. After the
// switch it ends the roll-over when no server has an old record any more.
func (r *Roll) Observe(ctx context.Context, v Visible) (RollState, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return RollState{}, err
	}
	defer unlock()
	rec, err := r.read(ctx)
	if err != nil {
		return RollState{}, err
	}
	switch rec.phase() {
	case RollNone:
		return r.state(rec), nil
	case RollSwitched:
		if rec.Switched.IsZero() || v.At.Before(rec.Switched) || v.shows(rec.gone()) {
			return r.state(rec), nil
		}
		return r.state(rollRecord{current: rec.current}), r.forget(ctx)
	}
	rec.observe(v, r.log())
	if err := r.write(ctx, rec); err != nil {
		return RollState{}, err
	}
	return r.state(rec), nil
}

// shows reports whether any server has one of the records, or may have.
func (v Visible) shows(data []string) bool {
	return slices.ContainsFunc(v.Sights, func(s Sight) bool {
		return s.Err != nil || slices.ContainsFunc(data, s.holds)
	})
}

func (rec *rollRecord) observe(v Visible, log *zap.Logger) {
	now := time.Now()
	switch {
	case rec.Checked.After(now): // the clock was wrong then, or is now: begin to wait anew
		rec.Seen = time.Time{}
	case v.At.Before(rec.Checked): // somebody else has looked since
		return
	}
	// Of all looks: a TTL that was lowered lately still holds in caches.
	rec.TTL = max(rec.TTL, v.TTL)
	rec.Checked, rec.Missing = v.At, v.lacking(rec.Next)
	switch {
	case len(rec.Missing) > 0:
		if !rec.Seen.IsZero() {
			log.Warn("next TLSA record is not visible everywhere any more: the wait begins anew", zap.Strings("missing", rec.Missing))
		}
		rec.Seen = time.Time{}
	case rec.Seen.IsZero():
		rec.Seen = v.At
	}
}

// MaySwitch returns nil when the next key may be used: the last look saw its
// record at every server, and two TTLs have passed since the first of an
// unbroken row that did (RFC 7671 section 8.1), so that no cache is without it.
func (s RollState) MaySwitch(now time.Time) error {
	ready := s.Seen.Add(2 * s.TTL)
	switch {
	case s.Phase == RollNone:
		return errors.New("no roll-over is under way: begin one")
	case s.Phase == RollSwitched:
		return nil
	case len(s.Missing) > 0:
		return fmt.Errorf("the next record is not visible everywhere: %s: publish it, or wait until every server of the zone has it",
			strings.Join(s.Missing, ", "))
	case s.Seen.IsZero():
		return errors.New("the next record has not been looked for: publish it, then check")
	case now.Before(ready):
		return fmt.Errorf("every server has the next record since %s, but with a TTL of %v caches may lack it until %s: wait another %v",
			date(s.Seen), s.TTL, date(ready), ready.Sub(now).Round(time.Second))
	}
	return nil
}

// MaySwitch is RollState's, of the state in the storage.
func (r *Roll) MaySwitch(ctx context.Context, now time.Time) error {
	state, err := r.State(ctx)
	if err != nil {
		return err
	}
	return state.MaySwitch(now)
}
