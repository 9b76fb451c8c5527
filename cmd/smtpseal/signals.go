package main

import (
	"context"
	"errors"
	"os"
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
	begun := make(chan outcome)
	go func() {
		s, err := start(ctx)
		begun <- outcome{s, err}
	}()
	for {
		select {
		case o := <-begun:
			return o.service, o.error
		case signal := <-signals:
			if signal == reloadSignal {
				continue // what it asks for is being read
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

// untilSignal returns when the service is asked to stop.
func (s *service) untilSignal(signals <-chan os.Signal) {
	for signal := range signals {
		if signal != reloadSignal {
			return
		}
		s.certs.Reload()
		s.log.Warn("certificates read again; the configuration was not: reloading it is not supported yet, restart instead")
	}
}

// drain stops the service within the given time, or at the next request to
// stop. It is no failure when sessions had to be cut short: stopping was what
// was asked for, and the log says so.
func (s *service) drain(signals <-chan os.Signal, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	stopped := make(chan struct{})
	impatient := make(chan struct{})
	go func() {
		defer close(impatient)
		for {
			select {
			case signal := <-signals:
				if signal != reloadSignal {
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
