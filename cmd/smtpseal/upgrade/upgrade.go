// Package upgrade replaces the process by a new one of the same program, whose
// file may meanwhile be another version, without refusing a connection.
//
// Four sentences hold, whatever the new process does:
//
//   - The listening sockets stay open all the time: the new process gets
//     duplicates of them, and both accept until the old one is told to drain.
//   - The old process goes on as if nothing had been asked until the new one
//     has said that it is ready; if it ends, hangs or cannot be started, that
//     is an error and nothing else.
//   - One upgrade is under way at a time, and a process is replaced once.
//   - The path of a unix socket is unlinked by the last process that has it.
//
// Sockets travel as systemd passes them (sd_listen_fds(3)), so that socket
// activation and an upgrade are one way in: see Inherit. Beside them go two
// pipes: by one the new process says that it is ready, by the other it hears
// that the old one has taken notice, and has told systemd who the main process
// is now. systemd takes READY=1 from nobody else.
//
// The package hands over sockets and nothing more. Draining, and everything
// that two processes share meanwhile (storage, the log), is the caller's.
package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// defaultTimeout is how long a new process may take until it is ready. It
// bounds for how long one that hangs keeps the next upgrade out; a start reads
// storage, and may wait there for locks, but not for a CA.
const defaultTimeout = time.Minute

// ErrUnderWay says that another upgrade has not ended yet.
var ErrUnderWay = errors.New("another upgrade is under way")

// errEnded is the end of the pipe without the word that should come by it.
var errEnded = errors.New("ended before it was ready")

// readyWord is all that a new process says.
const readyWord = 'R'

// A Handed is a socket for the new process, and the name by which it finds it:
// see Sockets.Hand.
type Handed struct {
	Name     string
	Listener net.Listener
}

// An Upgrader starts new processes. Its zero value works.
type Upgrader struct {
	// Timeout is how long a new process may take until it is ready; 0 means a
	// minute.
	Timeout time.Duration
	// Announce, if set, is told of the new process when that is ready, before
	// it hears so: the place for systemd's MAINPID. It must not block.
	Announce func(pid int)
	// OS is the operating system; what is nil in it is the real one.
	OS OS

	busy      sync.Mutex
	successor int
}

// Upgrade starts the program anew with the sockets and extra variables, and
// returns the new process's id when that one is ready: from then on this one
// should accept nothing more, drain and exit. On an error, at the end of ctx
// among others, there is no new process, and the sockets are as they were.
// Whoever closes a unix listener after a success leaves its path alone.
func (u *Upgrader) Upgrade(ctx context.Context, sockets []Handed, extra []string) (pid int, err error) {
	if !u.busy.TryLock() {
		return 0, ErrUnderWay
	}
	defer u.busy.Unlock()
	if u.successor != 0 {
		return 0, fmt.Errorf("replaced already by process %d", u.successor)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	child, err := u.start(sockets, extra)
	if err != nil {
		return 0, err
	}
	defer child.close()
	if err := u.await(ctx, child); err != nil {
		return 0, fmt.Errorf("new process %d: %w", child.Pid, child.bury(err))
	}
	u.successor = child.Pid
	keepPaths(sockets)
	if u.Announce != nil {
		u.Announce(child.Pid)
	}
	return child.Pid, nil // child.close lets it hear
}

func (u *Upgrader) start(sockets []Handed, extra []string) (*Child, error) {
	system := u.OS.orReal()
	path, args, err := system.Program()
	if err != nil {
		return nil, fmt.Errorf("find the program: %w", err)
	}
	child, err := system.Start(Command{path, args, environment(system.Environ(), sockets, extra), sockets})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return child, nil
}

// await returns nil when the child has said that it is ready.
func (u *Upgrader) await(ctx context.Context, child *Child) error {
	within := cmp.Or(u.Timeout, defaultTimeout)
	child.Says.SetReadDeadline(time.Now().Add(within))
	release := context.AfterFunc(ctx, func() { child.Says.SetReadDeadline(time.Unix(1, 0)) })
	defer release()
	var word [1]byte
	_, err := io.ReadFull(child.Says, word[:])
	switch {
	case err == nil && word[0] == readyWord:
		return nil
	case err == nil:
		return fmt.Errorf("said %q instead of being ready", word)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("not ready after %v", within)
	case errors.Is(err, io.EOF):
		return errEnded
	}
	return err
}

// keepPaths leaves the paths of unix sockets to the new process.
func keepPaths(sockets []Handed) {
	for _, s := range sockets {
		if l, ok := s.Listener.(interface{ SetUnlinkOnClose(bool) }); ok {
			l.SetUnlinkOnClose(false)
		}
	}
}
