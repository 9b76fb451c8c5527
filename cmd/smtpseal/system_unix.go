//go:build unix

package main

import (
	"errors"
	"net"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"

	"smtpseal/cmd/smtpseal/upgrade"
)

// reloadSignal asks for configuration and certificates to be read again,
// upgradeSignal for a new process to take over.
const (
	reloadSignal  = syscall.SIGHUP
	upgradeSignal = syscall.SIGUSR2
)

// notify collects TERM, INT, HUP and USR2. A broken pipe is ignored from then on: when the
// reader of our log goes away, a write of a log line must fail and not end the
// program, as Go would have it for standard error, with all the sessions in it.
func notify() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, reloadSignal, upgradeSignal)
	signal.Ignore(syscall.SIGPIPE)
	return signals, func() {
		signal.Stop(signals)
		signal.Reset(syscall.SIGPIPE)
	}
}

// copyOf is another listener of the same socket, to be closed on its own.
func copyOf(l net.Listener) (net.Listener, error) { return upgrade.Copy(l) }

func isInUse(err error) bool    { return errors.Is(err, syscall.EADDRINUSE) }
func isRefused(err error) bool  { return errors.Is(err, syscall.ECONNREFUSED) }
func isNotLocal(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }
func isDenied(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// othersDirectory reports whether we are root and a directory is somebody
// else's, and whose.
func othersDirectory(path string) (owner string, others bool) {
	info, err := os.Stat(path)
	if err != nil || os.Geteuid() != 0 {
		return "", false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return "", false
	}
	id := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username, true
	}
	return "#" + id, true
}

// descriptors returns how many files this process may open; Go has raised the
// soft limit to the hard one at its start.
func descriptors() (uint64, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return uint64(limit.Cur), true
}
