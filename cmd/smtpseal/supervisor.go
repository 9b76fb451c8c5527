package main

import (
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"
)

// This file tells systemd how we are, if it started us.

// tellSystemd says that we are ready, and goes on saying how we are, and that we
// are alive, until the service ends.
func (s *service) tellSystemd() {
	if err := s.inherited.Ready(); err != nil { // only now: whom we replace makes us the main process first
		s.log.Warn("upgrade", zap.Error(err))
	}
	s.systemd.Ready(s.line())
	s.beside.Go(func() { s.systemd.Run(s.life, s.alive, s.line) })
}

// alive reports whether the parts answer that everything depends on; it does not
// return if they do not.
func (s *service) alive() bool { return s.server.Sessions() >= 0 && s.now.Load() != nil }

// line is what `systemctl status` shows.
func (s *service) line() string {
	status := s.status()
	var parts []string
	if status.State == "draining" {
		parts = append(parts, "draining")
	}
	parts = append(parts, fmt.Sprintf("%d sessions", s.server.Sessions()))
	end, name := time.Time{}, ""
	for _, c := range status.Certificates {
		if !c.NotAfter.IsZero() && (end.IsZero() || c.NotAfter.Before(end)) {
			end, name = c.NotAfter, strings.Join(c.Names, ", ")
		}
	}
	if !end.IsZero() {
		parts = append(parts, fmt.Sprintf("certificate of %s: %d days left", name, int(time.Until(end)/(24*time.Hour))))
	}
	return strings.Join(append(parts, status.Reasons...), "; ")
}
