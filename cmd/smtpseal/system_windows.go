package main

import (
	"errors"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/windows"
)

// These never come: Windows has neither.
const (
	reloadSignal  = syscall.SIGHUP
	upgradeSignal = syscall.Signal(-1)
)

// notify collects the requests to stop that Windows knows: Ctrl-C, and the end
// of the console or of the machine.
func notify() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	return signals, func() { signal.Stop(signals) }
}

// copyOf is no copy, which Windows cannot make: a reload that moves an address to
// another part of the program, or changes what is served on one, needs a restart.
func copyOf(l net.Listener) (net.Listener, error) { return l, nil }

func isInUse(err error) bool    { return errors.Is(err, windows.WSAEADDRINUSE) }
func isRefused(err error) bool  { return errors.Is(err, windows.WSAECONNREFUSED) }
func isNotLocal(err error) bool { return errors.Is(err, windows.WSAEADDRNOTAVAIL) }
func isDenied(err error) bool   { return errors.Is(err, windows.WSAEACCES) }

// descriptors has no answer: Windows has no such limit.
func descriptors() (uint64, bool) { return 0, false }

// othersDirectory cannot tell: there is no root here.
func othersDirectory(string) (owner string, others bool) { return "", false }
