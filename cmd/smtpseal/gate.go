package main

import (
	"context"
	"io"
	"sync"

	"smtpseal/proxy"
)

// maxHeld is room for far more than the demo's own two sessions log. It may be
// told to listen where others come meanwhile, of whom the rest is dropped.
const maxHeld = 64 << 10

// A gate holds the log back, so that it does not run into a dialogue, until it
// is opened.
type gate struct {
	to     io.Writer
	mu     sync.Mutex
	isOpen bool
	held   []byte
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return g.to.Write(p)
	}
	if len(g.held)+len(p) <= maxHeld {
		g.held = append(g.held, p...)
	}
	return len(p), nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOpen = true
	g.to.Write(g.held)
	g.held = nil
}

// sessionsEnded is an observer that tells how many sessions are over; it never
// blocks one.
type sessionsEnded chan struct{}

func (e sessionsEnded) SessionEnded(*proxy.Record) {
	select {
	case e <- struct{}{}:
	default:
	}
}

// wait returns when n sessions are over, or do not seem to end.
func (e sessionsEnded) wait(ctx context.Context, n int) {
	for range n {
		select {
		case <-e:
		case <-ctx.Done():
			return
		}
	}
}
