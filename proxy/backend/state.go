package backend

import (
	"fmt"
	"time"
)

// All functions of this file are called with the backend's lock held. None waits
// for anything, so that no session waits long for it.

type state struct {
	server Server
	wake   chan struct{} // holds one: something has changed that its watch should know
	memory
}

// A memory is what Inherit takes over.
type memory struct {
	ServerState
	against int       // results in a row that speak against Up
	refused int       // checks since it went down that it has answered, but badly
	asked   time.Time // when the last check ended
	served  time.Time // when a session last found that it serves
	spread  float64   // how much of the wait's tenth is taken off, from 0 to 1
	told    bool      // Watch has told of a state …
	toldUp  bool      // … and this was it
}

func (b *Backend) begin() {
	if b.states != nil {
		return
	}
	b.states = make([]state, len(b.Servers))
	for i, server := range b.Servers {
		b.states[i] = state{server: server, wake: make(chan struct{}, 1)}
		b.states[i].ServerState = ServerState{Server: server, Up: true}
	}
}

func (b *Backend) find(server Server) *state {
	for i := range b.states {
		if b.states[i].server == server {
			return &b.states[i]
		}
	}
	return nil
}

func (b *Backend) good(s *state, at time.Time) {
	s.Checked = at
	if s.Up {
		s.against = 0
	} else {
		s.against++
	}
	if !s.Known || s.against >= b.Health.withDefaults().Rise {
		b.turn(s, true)
	} else if s.against == 1 {
		s.nudge()
	}
	if s.Up {
		s.Error, s.Hint = "", ""
		return
	}
	rise := b.Health.withDefaults().Rise
	s.Error = fmt.Sprintf("answers again: %d of %d checks", s.against, rise)
	s.Hint = fmt.Sprintf("it is used again when %d in a row are good, within seconds", rise)
}

func (b *Backend) bad(s *state, at time.Time, cause, hint string) {
	s.Checked, s.Error, s.Hint = at, cause, hint
	if s.Up {
		s.against++
	} else {
		s.against = 0
	}
	if !s.Known || s.against >= b.Health.withDefaults().Fall {
		b.turn(s, false)
	} else if s.against == 1 {
		s.nudge()
	}
}

// tells reports whether what is known says more than an error without a hint, so
// that it stays. What a server has answered since is not known any more.
func (s *state) tells() bool { return s.Hint != "" && (s.Up || s.against == 0) }

// turn takes a server up or down.
func (b *Backend) turn(s *state, up bool) {
	s.Up, s.Known, s.Since = up, true, s.Checked
	s.against, s.refused = 0, 0
	b.reorder()
	s.nudge()
}

// nudge wakes the server's watch. If it is awake or nobody watches, it is
// enough that one nudge waits.
func (s *state) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (b *Backend) reorder() {
	order := make([]Server, 0, len(b.states))
	for _, up := range []bool{true, false} {
		for i := range b.states {
			if b.states[i].Up == up {
				order = append(order, b.states[i].server)
			}
		}
	}
	b.order = order
}
