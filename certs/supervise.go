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

// attemptTimeout bounds one attempt over all CAs. DNS needs minutes to tell all
// its servers; a CA that accepts and is silent must not hold the lock for ever.
const attemptTimeout = 10 * time.Minute

// backOff is how long to wait behind each failure in a row. A CA counts failed
// validations (Let's Encrypt: five a name and hour), so the first steps are few.
var backOff = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour,
}

// supervise keeps one certificate fresh until ctx ends. It never gives up.
func (m *managed) supervise(ctx context.Context) {
	defer close(m.done)
	tick := time.NewTicker(m.poll)
	defer tick.Stop()
	for {
		m.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.nudge:
			m.forgive()
		}
	}
}

// step does what is to do now: nothing, nearly always.
func (m *managed) step(ctx context.Context) {
	err := m.reload(ctx)
	m.watchExpiry()
	if err != nil && !errors.Is(err, errBroken) {
		if ctx.Err() == nil {
			m.failedToLook(err)
		}
		return // without the storage a certificate could be had, but not be kept
	}
	m.askWindow(ctx)
	if !m.due(time.Now()) || m.tooEarly(time.Now()) {
		return
	}
	err = m.attempt(ctx, false)
	if ctx.Err() == nil { // else we are being stopped, which is no failure
		m.tried(err)
		m.remember(ctx, err)
	}
}

// forgive lets the next attempt be made at once.
func (m *managed) forgive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.failures, m.state.nextTry = 0, time.Time{}
}

// tooEarly keeps an attempt from following a failure too closely. A clock that
// was set back must not make it wait for longer than the longest step.
func (m *managed) tooEarly(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	longest := backOff[len(backOff)-1] * 11 / 10
	return now.Before(m.state.nextTry) && m.state.nextTry.Sub(now) <= longest
}

// tried notes how an attempt ended.
func (m *managed) tried(err error) {
	if err == nil {
		m.mu.Lock()
		m.state.failures, m.state.lastError, m.state.nextTry = 0, "", time.Time{}
		m.mu.Unlock()
		return
	}
	m.mu.Lock()
	wait := backOff[min(m.state.failures, len(backOff)-1)]
	wait += time.Duration((rand.Float64() - 0.5) / 5 * float64(wait)) // ±10 %: replicas and names must not march in step
	m.state.failures++
	m.state.failed++
	m.state.lastError = err.Error()
	m.state.nextTry = time.Now().Round(0).Add(wait) // by the clock on the wall, which suspends and jumps
	event := m.event(EventFailed)
	m.mu.Unlock()
	event.Error = err.Error()
	m.source.tell(event)
	m.log.Error("certificate not obtained: the last good one is served, if there is one", zap.Error(err),
		zap.Duration("next_try_in", wait.Round(time.Second)), zap.String("remedy", remedy(err)))
}

// failedToLook says once of each outage that the storage cannot be read.
func (m *managed) failedToLook(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := "storage: " + err.Error()
	if m.state.lastError == text {
		return
	}
	m.state.lastError = text
	m.log.Error("storage cannot be read: the certificate that is held is served", zap.Error(err), zap.Duration("next_try_in", m.poll))
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
