package mta

import (
	"slices"
	"testing"
	"time"
)

// update changes a record and wakes whoever waits.
func (s *Server) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.announce()
}

func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Connections returns all connections so far, in the order of their accept.
func (s *Server) Connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Connection, 0, len(s.connections))
	for _, record := range s.connections {
		all = append(all, record.copy())
	}
	return all
}

// Messages returns all accepted mail so far.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// WaitMessage returns the next accepted mail, each one once and in order.
func (s *Server) WaitMessage(t testing.TB) Message {
	t.Helper()
	var message Message
	s.wait(t, "a message", func() bool {
		if s.taken == len(s.messages) {
			return false
		}
		message = s.messages[s.taken]
		s.taken++
		return true
	})
	return message
}

// WaitConnection returns the nth connection (from 1) once it satisfies ok; nil
// is satisfied by its being there.
func (s *Server) WaitConnection(t testing.TB, n int, ok func(*Connection) bool) Connection {
	t.Helper()
	var found Connection
	s.wait(t, "a connection", func() bool {
		if len(s.connections) < n {
			return false
		}
		found = s.connections[n-1].copy()
		return ok == nil || ok(&found)
	})
	return found
}

// Find returns the first connection that satisfies ok, once there is one.
func (s *Server) Find(t testing.TB, ok func(*Connection) bool) Connection {
	t.Helper()
	var found Connection
	s.wait(t, "a certain connection", func() bool {
		for _, record := range s.connections {
			if ok(record) {
				found = record.copy()
				return true
			}
		}
		return false
	})
	return found
}

// WaitEnd returns the nth connection (from 1) once it has ended.
func (s *Server) WaitEnd(t testing.TB, n int) Connection {
	t.Helper()
	return s.WaitConnection(t, n, func(c *Connection) bool { return c.End != Open })
}

// WaitIdle returns once every connection has ended.
func (s *Server) WaitIdle(t testing.TB) {
	t.Helper()
	s.wait(t, "the end of all connections", func() bool {
		return !slices.ContainsFunc(s.connections, func(c *Connection) bool { return c.End == Open })
	})
}

// wait returns once done, called under the lock after every change, says so.
// It fails the test with all transcripts when Config.Wait has passed.
func (s *Server) wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	timeout := time.NewTimer(s.config.Wait)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			for _, c := range s.Connections() {
				t.Log(c.String())
			}
			t.Fatalf("mta: waited %v for %s", s.config.Wait, what)
		}
	}
}
