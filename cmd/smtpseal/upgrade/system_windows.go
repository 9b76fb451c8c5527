package upgrade

import (
	"errors"
	"net"
	"os"
)

// Windows passes no sockets this way: there is nothing to inherit, and a new
// version needs a restart.

var errNotSupported = errors.New("not supported on Windows: restart instead")

// Copy is not supported.
func Copy(net.Listener) (net.Listener, error) { return nil, errNotSupported }

func start(Command) (*Child, error)                  { return nil, errNotSupported }
func openPipes(int, string) (says, hears *os.File)   { return nil, nil }
func openListener(int, string) (net.Listener, error) { return nil, errNotSupported }
