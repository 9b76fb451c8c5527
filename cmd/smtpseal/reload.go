package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"smtpseal/admin"
)

// reload reads the configuration again and puts it into effect, or changes
// nothing and says why. Sessions keep what they were born with.
func (s *service) reload(ctx context.Context) error {
	ctx, release := s.untilEnd(ctx)
	defer release()
	done, err := s.claim(ctx)
	if s.asked.Err() != nil {
		if err == nil {
			done()
		}
		return errEnding
	}
	if err != nil {
		return err
	}
	defer done()
	s.systemd.Reloading()
	defer func() { s.systemd.Ready(s.line()) }()
	began := time.Now()
	err = s.replaceSetup(ctx)
	if err != nil && s.asked.Err() != nil {
		s.log.Info("configuration not reloaded: smtpseal is ending")
		return errEnding
	}
	s.reloads.add(err)
	if err != nil {
		s.log.Error("configuration not reloaded: the one before stays in effect", zap.String("error", oneLine(err)))
		return err
	}
	c := s.now.Load().config
	for _, warning := range c.Warnings() {
		s.log.Warn(warning)
	}
	s.log.Info("configuration reloaded", zap.Strings("addresses", s.now.Load().sockets.addresses()), zap.Duration("duration", time.Since(began)))
	return nil
}

// untilEnd is a context that ends also when the service is asked to.
func (s *service) untilEnd(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.asked, cancel)
	return ctx, func() { stop(); cancel() }
}

func (s *service) replaceSetup(ctx context.Context) error {
	c, err := s.from.load()
	if gone := (advised{}); errors.As(err, &gone) && gone.remedy == withoutFile {
		return advised{gone.error, "put it back, or start smtpseal anew with another"} // the other ways are for a start
	}
	if err != nil {
		return err
	}
	next, err := s.prepare(ctx, c)
	if err != nil {
		return err
	}
	return s.commit(next)
}

// oneLine is an error of several lines for a log line, with the remedies.
func oneLine(err error) string {
	var b strings.Builder
	complain(&b, err)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(strings.Join(strings.Fields(line), " "), "smtpseal: ")
	}
	return strings.Join(lines, "; ")
}

// Reloads counts attempts, and remembers the last.
type reloads struct {
	mu         sync.Mutex
	ok, failed int64
	last       admin.Reload
}

func (r *reloads) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = resultOf(err)
	if err != nil {
		r.failed++
		return
	}
	r.ok++
}

// resultOf is what came of one attempt, for who asked for it: the last one may
// be another's by then.
func resultOf(err error) admin.Reload {
	if err != nil {
		return admin.Reload{Time: time.Now(), Result: "failed", Error: oneLine(err)}
	}
	return admin.Reload{Time: time.Now(), Result: "ok"}
}
