package certs

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// storagePoll is how often a supervisor looks into the storage, and at the
// clock. It bounds how long a renewal by another replica stays unseen, and how
// long a clock that jumps does.
const storagePoll = 30 * time.Second

// storageTimeout bounds one look: a store that accepts and is silent must not
// keep a supervisor from its other duties.
const storageTimeout = 20 * time.Second

// attemptTimeout bounds an attempt at one CA. DNS needs minutes to tell all its
// servers; a CA that accepts and is silent must not hold the lock for ever, nor
// keep the next one from its turn.
const attemptTimeout = 10 * time.Minute

// backOff is how long to wait behind each failure in a row. A CA counts failed
// validations (Let's Encrypt: five a name and hour), so the first steps are few.
var backOff = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour,
}

// retryAtMost bounds what a CA may ask for by Retry-After: days of silence may
// be right for its limits, but the next attempt may also meet another CA.
const retryAtMost = 6 * time.Hour

// supervise keeps one certificate fresh until ctx ends. It never gives up.
func (m *managed) supervise(ctx context.Context) {
	defer close(m.done)
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.nudge:
			m.forgive()
		}
		m.step(ctx)
		// A little early, each time by another span: a thousand names must not
		// ask the storage in the same moment.
		tick.Reset(time.Duration((0.8 + 0.2*rand.Float64()) * float64(m.poll)))
	}
}

// step does what is to do now: nothing, nearly always.
func (m *managed) step(ctx context.Context) {
	err := m.reload(ctx)
	m.watchExpiry()
	if ctx.Err() != nil {
		return
	}
	m.looked(err)
	if err != nil && !errors.Is(err, errBroken) {
		return // without the storage a certificate could be had, but not be kept
	}
	m.askWindow(ctx)
	m.askStaple(ctx)
	if !m.due(time.Now()) || m.tooEarly(time.Now()) {
		return
	}
	err = m.attemptWithin(ctx, m.poll, false)
	switch {
	case ctx.Err() != nil: // we are being stopped, which is no failure
	case errors.Is(err, errBusy):
		m.log.Debug("not obtained yet", zap.Error(err))
	default:
		m.tried(err)
		m.remember(ctx, err)
	}
}

// forgive lets the next attempt be made at once, and a CA that did not answer be
// asked again. One that did says itself when it wants to be.
func (m *managed) forgive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.failures, m.state.nextTry = 0, time.Time{}
	if m.window.unanswered {
		m.window.next = time.Time{}
	}
}

// tooEarly keeps an attempt from following a failure too closely. A clock that
// was set back must not make it wait for longer.
func (m *managed) tooEarly(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.state.nextTry) && !now.Before(m.state.lastTry)
}

// tried notes how an attempt ended, tells of a failure and logs it.
func (m *managed) tried(err error) {
	wait := m.noted(err)
	if err == nil {
		return
	}
	text := "certificate not renewed: the one in use is served"
	if m.certificate() == nil {
		text = "certificate not obtained: there is none to serve yet"
	}
	m.log.Error(text, zap.Error(err), zap.Duration("next_try_in", wait.Round(time.Second)), zap.String("remedy", remedy(err)))
}

// noted is tried for a caller who is told the error.
func (m *managed) noted(err error) (wait time.Duration) {
	m.mu.Lock()
	if err == nil {
		m.state.failures, m.state.lastError, m.state.nextTry = 0, "", time.Time{}
		m.mu.Unlock()
		return 0
	}
	wait = m.wait(err)
	m.state.failures++
	m.state.failed++
	m.state.lastError = err.Error()
	m.state.lastTry = time.Now().Round(0) // by the clock on the wall, which suspends and jumps
	m.state.nextTry = m.state.lastTry.Add(wait)
	event := m.event(EventFailed)
	m.mu.Unlock()
	event.Error = err.Error()
	m.source.tell(event)
	return wait
}

// wait is how long to leave the CAs alone behind this failure: the step of the
// back-off, or what all of them ask for. The caller holds mu.
func (m *managed) wait(err error) time.Duration {
	wait := backOff[min(m.state.failures, len(backOff)-1)]
	var r *refusal
	if errors.As(err, &r) {
		wait = max(wait, min(r.wait, retryAtMost))
	}
	return wait + time.Duration((rand.Float64()-0.5)/5*float64(wait)) // ±10 %: replicas and names must not march in step
}

// looked says once of each outage that the storage cannot be read, and that it
// can be again.
func (m *managed) looked(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := ""
	if err != nil {
		text = "storage: " + err.Error()
	}
	if m.state.lookError == text {
		return
	}
	m.state.lookError = text
	if err == nil {
		m.log.Info("storage can be read again")
		return
	}
	m.log.Error("storage cannot be read: the certificate that is held is served", zap.Error(err), zap.Duration("next_try_in", m.poll),
		zap.String("remedy", remedy(errors.New(text))))
}

// askStaple fetches the CA's word that the certificate is not revoked, if its CA
// gives one and it is time to.
func (m *managed) askStaple(ctx context.Context) {
	m.mu.Lock()
	held, next := m.held, m.staple
	m.mu.Unlock()
	if held == nil || time.Now().Before(next) {
		return
	}
	stapled, next, revoked, err := m.source.stapler.staple(ctx, held)
	if err != nil {
		m.log.Warn("no OCSP staple", zap.Error(err))
	}
	if next.IsZero() {
		next = held.Leaf.NotAfter // never
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held != held {
		return
	}
	m.staple = next
	if stapled != held {
		m.held = stapled
		m.source.stale()
	}
	if revoked { // it is of no use to anybody who looks
		m.window = window{at: time.Now(), next: time.Now().Add(askAtLeast)}
	}
}

// watchExpiry tells of a certificate whose end comes near.
func (m *managed) watchExpiry() {
	m.mu.Lock()
	if m.held == nil || !m.expiry.look(m.held.Leaf, m.log) {
		m.mu.Unlock()
		return
	}
	event := m.event(EventExpiring)
	event.Error = m.state.lastError
	m.mu.Unlock()
	m.source.tell(event)
}

// event describes what is held. The caller holds mu.
func (m *managed) event(kind EventKind) Event {
	e := Event{Kind: kind, Name: m.name, KeyType: m.kind.name}
	if m.held != nil {
		c := describe(m.held.Leaf)
		e.Issuer, e.Serial, e.NotAfter = c.Issuer, c.Serial, c.NotAfter
	}
	return e
}
