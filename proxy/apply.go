package proxy

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// A door is an open net.Listener. Its accept loop outlives settings: who comes
// in meets those that stand behind the door at that moment.
type door struct {
	net.Listener
	now atomic.Pointer[place]
}

// A place is where a session is born.
type place struct {
	settings *generation
	listener *Listener
}

// Apply serves with settings from now on, and may be called again and again.
// Sessions that are up keep the settings that they were born with.
//
// A listener whose Net is the same value as before is kept: its accept loop
// goes on and nobody is refused. New ones are served, those that are gone are
// closed, and a Net that was closed must not come back. The type of a Net must
// be comparable, as pointers are.
//
// The Server owns all of settings.Listeners from then on, and closes them. On
// an error nothing has changed: it owns and serves what it did, and what is new
// in settings is still the caller's to close. After Shutdown there is always an
// error, and the Server owns none.
func (s *Server) Apply(settings Settings) error {
	s.once.Do(s.init)
	settings.Listeners = slices.Clone(settings.Listeners) // sessions will look at them for a long time
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the server is shut down")
	}
	next := &generation{Settings: settings, handshakes: s.turnstile(settings.Limits.Handshakes), debug: s.log().Core().Enabled(zap.DebugLevel)}
	doors, err := s.doorsOf(next)
	if err != nil {
		return err
	}
	s.settings = next
	for l, d := range doors {
		if s.doors[l] == nil {
			s.running.Go(func() { s.accept(d) })
		}
	}
	for l := range s.doors {
		if doors[l] == nil {
			l.Close()
		}
	}
	s.doors = doors
	return nil
}

// turnstile returns the one there is, if it has as many places: a new one would
// let twice as many handshakes compute for a moment.
func (s *Server) turnstile(places int) *turnstile {
	if places == 0 {
		places = 4 * runtime.GOMAXPROCS(0)
	}
	if s.settings != nil && cap(s.settings.handshakes.free) == places {
		return s.settings.handshakes
	}
	return newTurnstile(places)
}

// doorsOf puts g's listeners behind doors, old ones where there are.
func (s *Server) doorsOf(g *generation) (map[net.Listener]*door, error) {
	places := make(map[net.Listener]*place, len(g.Listeners))
	for i := range g.Listeners {
		l := &g.Listeners[i]
		if other := places[l.Net]; other != nil {
			return nil, fmt.Errorf("listeners %s and %s have one socket", other.listener.Name, l.Name)
		}
		places[l.Net] = &place{g, l}
	}
	doors := make(map[net.Listener]*door, len(places))
	for l, p := range places {
		d := s.doors[l]
		if d == nil {
			d = &door{Listener: l}
		}
		d.now.Store(p)
		doors[l] = d
	}
	return doors, nil
}

// Accept errors back off from and to these: out of descriptors, trying again
// at once would only burn the processor that could free some.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

func (s *Server) accept(d *door) {
	backoff := minBackoff
	for {
		conn, err := d.Accept()
		switch {
		case err == nil:
			backoff = minBackoff
			s.start(d.now.Load(), conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.log().Error("accept", zap.String("listener", d.now.Load().listener.Name), zap.Error(err), zap.Duration("retry_in", backoff))
			time.Sleep(backoff)
			backoff = min(2*backoff, maxBackoff)
		}
	}
}
