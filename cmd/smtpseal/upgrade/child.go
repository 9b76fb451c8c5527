package upgrade

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// An OS is what an upgrade asks of the operating system.
type OS struct {
	// Program returns the file to run, as it is found now, and its arguments,
	// of which the first is the name by which it was called.
	Program func() (path string, args []string, err error)
	Environ func() []string
	Start   func(Command) (*Child, error)
}

// A Command is what to start. Its sockets become descriptors 3 and up, the two
// pipes those behind them.
type Command struct {
	Path      string
	Args, Env []string
	Sockets   []Handed
}

// A Child is a process that is being started.
type Child struct {
	Pid   int
	Says  Pipe      // where it says that it is ready; ends when it ends
	Hears io.Closer // is closed when we have heard it
	Kill  func() error
	Wait  func() (state string, err error) // reaps it
}

// A Pipe is the reading end of one.
type Pipe interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

func (system OS) orReal() OS {
	if system.Program == nil {
		system.Program = program
	}
	if system.Environ == nil {
		system.Environ = os.Environ
	}
	if system.Start == nil {
		system.Start = start
	}
	return system
}

// close gives up what we hold of a child. One that is ready lives on; it will
// be adopted when we exit, and reaped by whoever does.
func (c *Child) close() {
	c.Says.Close()
	c.Hears.Close()
}

// bury ends a child that must not live on, and returns why, with its end.
// The kill is not noticed by one that is exiting already: its pipe ends after
// its exit status is settled.
func (c *Child) bury(why error) error {
	c.Kill()
	state, err := c.Wait()
	if err != nil {
		return errors.Join(why, fmt.Errorf("wait: %w", err))
	}
	if errors.Is(why, errEnded) {
		return fmt.Errorf("%w: %s", why, state)
	}
	return why
}

// program looks up the running command again. Its file may have been replaced
// since: then the name by which it was called leads to the new one, and
// /proc/self/exe to what was deleted. A path that leads nowhere now is an
// error; only a bare name that was made up (as by exec -a) is no path at all.
func program() (string, []string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil && !strings.ContainsRune(os.Args[0], os.PathSeparator) {
		path, err = os.Executable()
	}
	return path, os.Args, err
}
