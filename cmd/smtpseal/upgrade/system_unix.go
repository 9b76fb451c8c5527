//go:build unix

package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// start starts a process. It goes below os/exec, whose (*os.File).Fd makes a
// socket blocking: the mode is shared with the duplicate that we go on
// accepting on, and a blocked Accept heeds no deadline and no Close.
func start(c Command) (_ *Child, err error) {
	says, said, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer said.Close()
	hears, heard, err := os.Pipe()
	if err != nil {
		says.Close()
		return nil, err
	}
	defer hears.Close()
	defer func() {
		if err != nil {
			says.Close()
			heard.Close()
		}
	}()
	files := []uintptr{0, 1, 2}
	for _, s := range c.Sockets {
		fd, err := duplicate(s.Listener)
		if err != nil {
			return nil, fmt.Errorf("hand over %s: %w", s.Name, err)
		}
		defer unix.Close(fd)
		files = append(files, uintptr(fd))
	}
	pipe, err := inode(int(said.Fd()))
	if err != nil {
		return nil, err
	}
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{
		Env:   append(c.Env, upgradePipe+"="+pipe),
		Files: append(files, said.Fd(), hears.Fd()),
	})
	if err != nil {
		return nil, err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, err // never: it is there until we reap it
	}
	return &Child{Pid: pid, Says: says, Hears: heard, Kill: process.Kill, Wait: func() (string, error) {
		state, err := process.Wait()
		return state.String(), err
	}}, nil
}

// duplicate returns another descriptor of a listener's socket, for the caller
// to close. No other program that is started meanwhile gets it.
func duplicate(l net.Listener) (fd int, err error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("no socket of the operating system: %T", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	if err := raw.Control(func(socket uintptr) {
		fd, failed = unix.FcntlInt(socket, unix.F_DUPFD_CLOEXEC, firstSocket)
	}); err != nil {
		return 0, err
	}
	return fd, failed
}

// Copy returns another listener of the same socket, to be closed on its own.
// net.FileListener on what (*net.TCPListener).File returns would make the
// socket blocking for a moment, in which somebody may be accepting.
func Copy(l net.Listener) (net.Listener, error) {
	fd, err := duplicate(l)
	if err != nil {
		return nil, err
	}
	return openListener(fd, l.Addr().String())
}

// inode names a pipe. Where the system numbers its pipes, as Linux does, no
// other one has the name while this one lives.
func inode(fd int) (string, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return "", err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return "", errors.New("no pipe")
	}
	return strconv.FormatUint(stat.Ino, 10), nil
}

// openPipes opens the pipes to the process that we replace, if the first of
// them is the one that it named. They have deadlines only without blocking.
func openPipes(fd int, named string) (says, hears *os.File) {
	if pipe, err := inode(fd); err != nil || pipe != named {
		return nil, nil
	}
	for _, each := range []int{fd, fd + 1} {
		unix.CloseOnExec(each)
		if err := unix.SetNonblock(each, true); err != nil {
			return nil, nil
		}
	}
	return os.NewFile(uintptr(fd), "ready"), os.NewFile(uintptr(fd+1), "heard")
}

var errNoListener = errors.New("no listening stream socket (in a socket unit: ListenStream=, and not Accept=yes)")

// openListener makes a listener of a descriptor, and owns it from then on.
func openListener(fd int, name string) (net.Listener, error) {
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	// Not every system answers the second question.
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if kind != unix.SOCK_STREAM || err == nil && listens == 0 {
		return nil, errNoListener
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	if tcp, ok := l.(*net.TCPListener); ok {
		return quiet{tcp}, nil
	}
	return l, nil
}
