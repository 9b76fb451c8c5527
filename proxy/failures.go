package proxy

import (
	"slices"
	"sync"
	"time"
)

// maxFailures is how many kinds are remembered: what an operator can read in
// one look.
const maxFailures = 10

// Failures is an Observer that remembers the last kinds of failures, for people
// who ask what is wrong now. Failures of a kind are folded into one, and of ten
// kinds the one that was seen longest ago makes room. What the Internet does to
// everybody makes room first, and never takes that of another kind.
type Failures struct {
	mu    sync.Mutex
	kinds []folded // newest first
}

// A Failure is what became of the last session of its kind.
type Failure struct {
	Time      time.Time // of its end
	Count     int64     // of the kind, since it is remembered
	Session   string
	Listener  string
	Client    string // address and port
	Backend   string // the server that was connected to
	Phase     string
	Outcome   string
	Violation string
	Error     string
	Hint      string
}

type folded struct {
	Failure
	noise bool
}

// kind is what makes failures one: nothing in it comes from a client.
func (f *Failure) kind() [6]string {
	return [...]string{f.Listener, f.Outcome, f.Violation, f.Phase, f.Backend, f.Hint}
}

// SessionEnded remembers r if it failed.
func (f *Failures) SessionEnded(r *Record) {
	if !r.failed() {
		return
	}
	advice := r.advice()
	last := folded{noise: advice.noise, Failure: Failure{
		Time: r.Start.Add(r.Duration), Count: 1, Session: r.Session, Listener: r.Listener, Backend: r.Backend,
		Phase: string(r.Phase), Outcome: string(r.Outcome), Violation: r.Violation, Error: r.cause(), Hint: advice.hint,
	}}
	if r.Client.IsValid() {
		last.Client = r.Client.String()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(last)
}

func (f *Failures) add(last folded) {
	same := func(k folded) bool { return k.kind() == last.kind() }
	if i := slices.IndexFunc(f.kinds, same); i >= 0 {
		last.Count += f.kinds[i].Count
		f.kinds = slices.Delete(f.kinds, i, i+1)
	}
	if len(f.kinds) == maxFailures {
		i := f.lastNoise()
		switch {
		case i < 0 && last.noise:
			return
		case i < 0:
			i = maxFailures - 1
		}
		f.kinds = slices.Delete(f.kinds, i, i+1)
	}
	f.kinds = slices.Insert(f.kinds, 0, last)
}

// lastNoise returns which noise was seen longest ago, or -1.
func (f *Failures) lastNoise() int {
	for i := len(f.kinds) - 1; i >= 0; i-- {
		if f.kinds[i].noise {
			return i
		}
	}
	return -1
}

// Last returns what is remembered, newest first.
func (f *Failures) Last() []Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := make([]Failure, len(f.kinds))
	for i := range f.kinds {
		last[i] = f.kinds[i].Failure
	}
	return last
}
