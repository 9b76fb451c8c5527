package certs

import (
	"context"
	"errors"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// A window is a CA's advice when to renew a certificate (RFC 9773): a revocation
// to come, or a holiday, moves it.
type window struct {
	start, end time.Time
	at         time.Time // chosen at random between them; zero: no advice
	next       time.Time // when to ask again; zero: now
	url        string    // a page that says why
	unanswered bool      // the last question
}

// The bounds of what a CA may say about when to ask again: it must neither keep
// us busy, nor let an early renewal be missed.
const (
	askAtMost  = time.Minute
	askAtLeast = 24 * time.Hour
	askDefault = 6 * time.Hour
	askTimeout = 30 * time.Second
)

// errNoAdvice: the certificate's CA is not among those that are configured.
var errNoAdvice = errors.New("no CA to ask")

func windowOf(info acme.RenewalInfo) window {
	w := window{
		start: info.SuggestedWindow.Start, end: info.SuggestedWindow.End, at: info.SelectedTime,
		next: time.Now().Add(askDefault), url: info.ExplanationURL,
	}
	if w.at.IsZero() {
		w.at = w.start
	}
	if info.RetryAfter != nil {
		w.next = *info.RetryAfter
	}
	return w
}

// askWindow asks the CA, if it is time to. Without an answer the clock decides.
func (m *managed) askWindow(ctx context.Context) {
	held, issuer, before, ask := m.mayAsk(time.Now())
	if !ask {
		return
	}
	select {
	case m.asking <- struct{}{}: // a start with a thousand names must not ask for all at once
		defer func() { <-m.asking }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	w, err := m.advice(ctx, issuer, held)
	now := time.Now().Round(0)
	switch {
	case err != nil:
		m.log.Debug("no renewal information", zap.Error(err))
		w = before // what it said last still holds
		w.next, w.unanswered = now.Add(time.Hour), true
	case w.next.Before(now.Add(m.askAtMost())):
		w.next = now.Add(m.askAtMost())
	case w.next.After(now.Add(askAtLeast)):
		w.next = now.Add(askAtLeast)
	}
	// The random choice of before stands while it lies in what the CA says now,
	// or each question would move it.
	if !before.at.IsZero() && !before.at.Before(w.start) && !before.at.After(w.end) {
		w.at = before.at
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held.Leaf != held.Leaf {
		return
	}
	if !before.at.IsZero() && w.at.Before(before.at.Add(-time.Hour)) {
		m.log.Warn("the CA wants this certificate renewed earlier", zap.Time("at", w.at), zap.String("explanation", w.url))
	}
	m.window = w
}

// askAtMost is the least wait between two questions; tests have short polls.
func (m *managed) askAtMost() time.Duration { return min(askAtMost, 2*m.poll) }

func (m *managed) mayAsk(now time.Time) (held certmagic.Certificate, issuer string, before window, ask bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.advice == nil || m.held == nil || m.former || now.Before(m.window.next) || now.After(m.held.Leaf.NotAfter) {
		return held, "", before, false
	}
	return certmagic.Certificate{Certificate: *m.held}, m.issuer, m.window, true
}
