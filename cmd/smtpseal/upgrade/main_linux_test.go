package upgrade

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// With asServer set the test binary is a server: its argument is a file with
// addresses, a line each, as "tcp 127.0.0.1:0", "unix PATH", "systemd NAME".
// Clients give it orders, a line each. asStart is what happens to its start.
const (
	asServer = "UPGRADE_TEST_SERVER"
	asStart  = "UPGRADE_TEST_START"
)

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		serve(os.Args[1])
	}
	// Servers outlive those that started them; they become our children then,
	// so that we see how they end.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

type server struct {
	Upgrader
	sockets   *Sockets
	handed    []Handed
	accepting sync.WaitGroup
	sessions  sync.WaitGroup
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func must(err error) {
	if err != nil {
		say("%v", err)
		os.Exit(4)
	}
}

// serve is a server's life.
func serve(file string) {
	how, parent := os.Getenv(asStart), os.Getppid()
	os.Unsetenv(asStart)
	if how == "exits" {
		os.Exit(3)
	}
	go func() { // a test that is killed leaves nobody behind
		io.Copy(io.Discard, os.Stdin)
		os.Exit(5)
	}()
	if how == "orphaned before it inherits" {
		awaitDeath(parent)
	}
	s := new(server)
	var err error
	s.sockets, err = Inherit()
	must(err)
	text, err := os.ReadFile(file)
	must(err)
	for line := range strings.Lines(string(text)) {
		s.open(strings.TrimSpace(line))
	}
	for _, unused := range s.sockets.Close() {
		say("unused %s", unused)
	}
	switch how {
	case "hangs":
		say("hangs %d", os.Getpid())
		select {}
	case "fails late":
		for _, h := range s.handed {
			h.Listener.Close()
		}
		os.Exit(6)
	case "orphaned before it is ready":
		awaitDeath(parent)
	}
	for _, h := range s.handed {
		s.accepting.Go(func() { s.accept(h.Listener) })
	}
	must(s.sockets.Ready())
	say("ready %d", os.Getpid())
	s.accepting.Wait()
	s.sessions.Wait()
	os.Exit(0)
}

// awaitDeath returns when the process that started us is dead.
func awaitDeath(parent int) {
	say("waits %d", os.Getpid())
	for os.Getppid() == parent {
		time.Sleep(time.Millisecond) // nothing tells us
	}
}

func (s *server) open(line string) {
	network, addr, _ := strings.Cut(line, " ")
	var all []net.Listener
	if network == "systemd" {
		all = s.sockets.Named(addr)
	} else if l := s.sockets.Take(network, addr); l != nil {
		all = []net.Listener{l}
	} else {
		lc := net.ListenConfig{KeepAlive: -1}
		l, err := lc.Listen(context.Background(), network, addr)
		must(err)
		say("opened %s", l.Addr())
		all = []net.Listener{l}
	}
	for _, l := range all {
		s.handed = append(s.handed, s.sockets.Hand(network, addr, l))
	}
}

func (s *server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.sessions.Go(func() { s.session(conn) })
	}
}

// session does what a client orders.
func (s *server) session(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch order, arg, _ := strings.Cut(in.Text(), " "); order {
		case "pid":
			fmt.Fprintln(conn, os.Getpid())
		case "upgrade":
			s.upgrade(conn, arg)
		case "stop":
			s.stop()
		}
	}
}

func (s *server) upgrade(conn net.Conn, how string) {
	if how == "hangs briefly" {
		s.Timeout, how = 300*time.Millisecond, "hangs"
	}
	pid, err := s.Upgrade(context.Background(), s.handed, []string{asStart + "=" + how})
	if err != nil {
		fmt.Fprintln(conn, err)
		return
	}
	s.stop()
	fmt.Fprintf(conn, "upgraded %d\n", pid)
}

func (s *server) stop() {
	for _, h := range s.handed {
		h.Listener.Close()
	}
	s.accepting.Wait()
}

// alive reports whether a process is there, dead and unreaped ones included.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
