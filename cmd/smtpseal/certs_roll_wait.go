package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"smtpseal/certs"
)

const (
	// rollLook is how often the zone's servers are asked, at most.
	rollLook = 30 * time.Second

	// rollRest is how long the CA is left alone after it has refused, at first
	// and at most: it counts failures, and locks out who has too many.
	rollRest     = time.Minute
	rollRestMost = 32 * time.Minute
)

// await repeats steps until one has switched, or once if it shall not wait.
func (r *roller) await(ctx context.Context, state certs.RollState) (certs.RollState, error) {
	said := newPatience(r.stderr)
	defer said.end()
	if r.wait {
		fmt.Fprintln(r.stderr, r.estimate(state))
	}
	for rest := rollRest; ; {
		state, ordered, err := r.step(ctx)
		if err == nil || !r.wait || ctx.Err() != nil {
			return state, err
		}
		pause := rollLook
		switch left := time.Until(state.Seen.Add(2 * state.TTL)); {
		case ordered:
			pause, rest = rest, min(2*rest, rollRestMost)
		case !state.Seen.IsZero():
			pause = min(max(left, time.Second), rollLook)
		}
		said.tell(waitingFor(state, ordered, pause, err))
		select {
		case <-ctx.Done():
			return state, err
		case <-time.After(pause):
		}
	}
}

// estimate is how long all of it takes at least.
func (r *roller) estimate(state certs.RollState) string {
	ttl := state.TTL
	if r.publish {
		ttl = max(ttl, r.ttl)
	}
	left := 2 * ttl
	if !state.Seen.IsZero() {
		left = max(0, time.Until(state.Seen.Add(2*state.TTL)))
	}
	return fmt.Sprintf("this takes %v or more: every server of the zone must have the next record for two TTLs (of %v), and replicas a minute to follow",
		(left + rollSpread).Round(time.Second), ttl)
}

// waitingFor is what is waited for, and what changes with every look.
func waitingFor(state certs.RollState, ordered bool, pause time.Duration, err error) (what, left string) {
	switch {
	case ordered:
		return err.Error(), "next try in " + pause.String()
	case len(state.Missing) > 0:
		return "waiting for the next record: " + strings.Join(state.Missing, ", "), fmt.Sprintf("then %v more", 2*state.TTL)
	case !state.Seen.IsZero():
		return "every server has the next record since " + state.Seen.Local().Format(time.TimeOnly), until(state.Seen.Add(2 * state.TTL))
	}
	return err.Error(), "next look in " + pause.String()
}

func until(t time.Time) string {
	return fmt.Sprintf("%v left, until %s", max(0, time.Until(t)).Round(time.Second), t.Local().Format(time.TimeOnly))
}

// A patience tells people what is waited for, when it is another thing than
// before; and how long: on a terminal in a line that is written again and again,
// elsewhere from time to time, to show that it lives.
type patience struct {
	out  io.Writer
	live bool
	what string
	at   time.Time
}

// patienceQuiet bounds the silence where nothing can be overwritten.
const patienceQuiet = 10 * time.Minute

func newPatience(out io.Writer) *patience {
	return &patience{out: out, live: isTerminal(out) && os.Getenv("TERM") != "dumb"}
}

func (p *patience) tell(what, left string) {
	now := time.Now()
	if p.live {
		if what != p.what {
			p.end()
			fmt.Fprintf(p.out, "%s  %s\n", now.Format(time.TimeOnly), what)
		}
		fmt.Fprintf(p.out, "\r\x1b[K          %s", left)
	} else if what != p.what || now.Sub(p.at) >= patienceQuiet {
		fmt.Fprintf(p.out, "%s  %s; %s\n", now.Format(time.TimeOnly), what, left)
		p.at = now
	}
	p.what = what
}

// end leaves the line.
func (p *patience) end() {
	if p.live && p.what != "" {
		fmt.Fprintln(p.out)
	}
}
