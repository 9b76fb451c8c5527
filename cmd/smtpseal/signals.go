package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// This file is what requests to stop, and to reload, mean at each stage.

var errStopped = errors.New("asked to stop")

// startUnlessStopped gives a start up at a request to stop: it may wait for a
// lock that another process holds, or for slow storage.
func startUnlessStopped(ctx context.Context, signals <-chan os.Signal, start func(context.Context) (*service, error)) (*service, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		*service
		error
	}
	again := false
	begun := make(chan outcome)
	go func() {
		s, err := start(ctx)
		begun <- outcome{s, err}
	}()
	for {
		select {
		case o := <-begun:
			if again && o.error == nil {
				go o.service.reload(context.Background()) // until the service ends
			}
			return o.service, o.error
		case signal := <-signals:
			switch signal {
			case reloadSignal:
				again = true // the file may have been read before it was changed
				continue
			case upgradeSignal:
				continue // what it asks for is under way
			}
			cancel()
			o := <-begun
			if o.error == nil {
				o.service.stop(ctx) // was quicker; nobody has seen it
			}
			return nil, errStopped
		}
	}
}

// untilAsked returns when the service is asked to end: by a signal, by request,
// or because another process has taken over; it tells whether by a signal. What
// else signals ask for is done beside that, since it may take long.
func (s *service) untilAsked(signals <-chan os.Signal) (bySignal bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reloading, upgrading task
	for {
		select {
		case <-s.asked.Done():
			return bySignal
		case signal := <-signals:
			switch signal {
			case reloadSignal:
				reloading.start(func() { s.reload(ctx) })
			case upgradeSignal:
				upgrading.start(func() { s.handOver(ctx) })
			default:
				bySignal = true
				s.askToEnd()
			}
		}
	}
}

// A task is done by one goroutine at a time, and once more for whoever asks
// meanwhile: a thousand signals are two.
type task struct{ waiting, running atomic.Int32 }

func (t *task) start(do func()) {
	if t.waiting.Swap(1) == 1 {
		return
	}
	if t.running.Swap(1) == 1 {
		return // it looks again when it is done
	}
	go func() {
		for {
			for t.waiting.Swap(0) == 1 {
				do()
			}
			t.running.Store(0)
			if t.waiting.Load() == 0 || t.running.Swap(1) == 1 {
				return
			}
		}
	}()
}

// drain stops the service within the given time, or at a second signal. The one
// that it began with is the first; a drain that began otherwise has none yet, as
// when systemd ends all processes, of which one was about to end after an
// upgrade. It is no failure when sessions had to be cut short: stopping was what
// was asked for, and the log says so.
func (s *service) drain(signals <-chan os.Signal, bySignal bool, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	stopped := make(chan struct{})
	impatient := make(chan struct{})
	go func() {
		defer close(impatient)
		for {
			select {
			case signal := <-signals:
				switch {
				case signal == reloadSignal, signal == upgradeSignal:
				case !bySignal:
					bySignal = true
				default:
					cancel()
					return
				}
			case <-stopped:
				return
			}
		}
	}()
	if !s.stop(ctx) {
		s.log.Warn("sessions were ended before they were done")
	}
	close(stopped)
	<-impatient
}

// untilStopped is a context that ends with the first signal. HUP is among them:
// whoever uses it has nothing to reload, and the terminal is gone.
func untilStopped(signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
