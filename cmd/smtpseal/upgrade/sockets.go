package upgrade

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// hearTimeout bounds how long the old process may take to hear that we are
// ready: one that was stopped in the middle must not stop us.
const hearTimeout = 10 * time.Second

// Sockets are those that this process was given. Each is waiting until it is
// taken, and then belongs to who took it. They are for one goroutine at a time.
type Sockets struct {
	all         []*socket
	says, hears *os.File // to the process that we replace, until Ready; else nil
}

// A socket is one of them.
type socket struct {
	net.Listener
	name          string
	taken, closed bool
}

// Names are the names of all sockets, in order.
func (s *Sockets) Names() []string {
	var names []string
	for _, one := range s.all {
		names = append(names, one.name)
	}
	return names
}

// Named takes all sockets of a name in a socket unit (FileDescriptorName=).
func (s *Sockets) Named(name string) []net.Listener {
	var all []net.Listener
	for _, one := range s.all {
		if !one.taken && one.name == name {
			all = append(all, one.take())
		}
	}
	return all
}

// Take takes a socket for an address as it is configured: the one that our own
// upgrade named so, else one that listens there whatever its name. It returns
// nil if there is none. A wildcard may have come as two sockets, for IPv4 and
// IPv6: ask until there is none. Whatever has a name in the configuration must
// be taken by it before.
func (s *Sockets) Take(network, addr string) net.Listener {
	for _, one := range s.all {
		if !one.taken && one.name == Name(network, addr) {
			return one.take()
		}
	}
	var waiting []*socket
	for _, one := range s.all {
		if !one.taken {
			waiting = append(waiting, one)
		}
	}
	if one := at(network, addr, waiting); one != nil {
		return one.take()
	}
	return nil
}

// Hand is a socket for the process that will replace us, with the name by
// which it will be looked for: that of its unit if systemd opened it.
func (s *Sockets) Hand(network, addr string, l net.Listener) Handed {
	for _, one := range s.all {
		if one.Listener == l && !isOurs(one.name) {
			return Handed{one.name, l}
		}
	}
	return Handed{Name(network, addr), l}
}

// Close closes the sockets that nobody took, and says which. The path of a
// unix socket that our configuration no longer has goes with Ready.
func (s *Sockets) Close() []string {
	var unused []string
	for _, one := range s.all {
		if one.taken {
			continue
		}
		unused = append(unused, fmt.Sprintf("%s (%s %s)", one.name, one.Addr().Network(), one.Addr()))
		one.taken, one.closed = true, true
		if s.says == nil || !one.hasPath() {
			one.Close()
		}
	}
	return unused
}

// Ready tells the process that we replace that it may go, and returns when it
// has heard it, or is dead. Without one it does nothing. After an error, too,
// we serve: somebody has to.
func (s *Sockets) Ready() error {
	if s.says == nil {
		return nil
	}
	err := s.tell()
	s.hang()
	// Had we unlinked before, a start that fails would have cost the old
	// process its path.
	for _, one := range s.all {
		if one.hasPath() {
			one.Listener.(*net.UnixListener).SetUnlinkOnClose(true)
			if one.closed {
				one.Close()
			}
		}
	}
	return err
}

func (s *Sockets) tell() error {
	if _, err := s.says.Write([]byte{readyWord}); err != nil {
		if errors.Is(err, syscall.EPIPE) {
			return nil // it has died; nobody is left to hear
		}
		return fmt.Errorf("tell the old process: %w", err)
	}
	return s.hear(time.Now().Add(hearTimeout))
}

func (s *Sockets) hear(until time.Time) error {
	s.hears.SetReadDeadline(until)
	if _, err := io.Copy(io.Discard, s.hears); err != nil {
		return fmt.Errorf("the old process does not answer: %w", err)
	}
	return nil
}

func (s *Sockets) hang() {
	s.says.Close()
	s.hears.Close()
	s.says, s.hears = nil, nil
}

// abandon gives everything back, as if the process had not begun.
func (s *Sockets) abandon() {
	for _, one := range s.all {
		one.Close()
	}
	if s.says != nil {
		s.hang()
	}
}

func (one *socket) take() net.Listener {
	one.taken = true
	return one.Listener
}

// hasPath reports whether a socket has a path that is ours to unlink; one that
// systemd opened is systemd's.
func (one *socket) hasPath() bool { return one.Addr().Network() == "unix" && isOurs(one.name) }
