package upgrade

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// firstSocket is SD_LISTEN_FDS_START.
const firstSocket = 3

// maxSockets bounds how many descriptors a mistyped variable makes us touch;
// no configuration has so many addresses.
const maxSockets = 1024

// Inherit takes over the sockets that this process was given at its start, by
// systemd or by the process that it replaces, and removes the variables that
// say so. Without any the Sockets are empty. It is called once, early: before
// it, every program that we start would get the sockets, too.
func Inherit() (*Sockets, error) {
	env := make(map[string]string)
	for _, name := range []string{listenCount, listenNames, listenPID, upgradePipe} {
		env[name] = os.Getenv(name)
		os.Unsetenv(name)
	}
	return inherit(env, os.Getpid(), firstSocket)
}

func inherit(env map[string]string, pid, first int) (*Sockets, error) {
	count, err := strconv.Atoi(env[listenCount])
	counts := err == nil && 0 <= count && count <= maxSockets
	s := new(Sockets)
	if counts && env[upgradePipe] != "" {
		s.says, s.hears = openPipes(first+count, env[upgradePipe])
	}
	if s.says == nil && env[listenPID] != strconv.Itoa(pid) {
		return s, nil // meant for another process, whose environment we have
	}
	if !counts {
		return nil, fmt.Errorf("%s=%q: no number of sockets up to %d", listenCount, env[listenCount], maxSockets)
	}
	if err := s.open(env[listenNames], first, count); err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

func (s *Sockets) open(variable string, first, count int) error {
	names, err := socketNames(variable, count)
	if err != nil {
		return err
	}
	for i, name := range names {
		l, err := openListener(first+i, name)
		if err != nil {
			return fmt.Errorf("socket %d of %d (%s): %w", i+1, count, name, err)
		}
		s.all = append(s.all, &socket{name: name, Listener: l})
	}
	return nil
}

// socketNames takes the names apart. Without the variable all are "unknown",
// as with sd_listen_fds_with_names(3).
func socketNames(variable string, count int) ([]string, error) {
	if count == 0 {
		return nil, nil
	}
	names := strings.Split(variable, ":")
	if variable == "" {
		names = strings.Split(strings.Repeat(":unknown", count)[1:], ":")
	}
	if len(names) != count {
		return nil, fmt.Errorf("%s=%q: %d names for %d sockets", listenNames, variable, len(names), count)
	}
	return names, nil
}
