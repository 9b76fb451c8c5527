package upgrade

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A stage is an operating system that plays one child, and notes in order what
// is done to it.
type stage struct {
	Upgrader
	started Command
	notes   []string
	plays   func(net.Conn) // the child, with its end of the pipe
}

func newStage() *stage {
	s := new(stage)
	s.Announce = func(int) { s.note("announce") }
	s.OS = OS{
		Program: func() (string, []string, error) { return "/bin/new", []string{"smtpseal", "run"}, nil },
		Environ: func() []string { return []string{"A=b", "LISTEN_PID=1"} },
		Start:   s.start,
	}
	return s
}

func (s *stage) note(what string) { s.notes = append(s.notes, what) }

func (s *stage) start(c Command) (*Child, error) {
	s.started = c
	s.note("start")
	says, child := net.Pipe()
	go s.plays(child)
	return &Child{
		Pid: 42, Says: says, Hears: noted{s, "hear"},
		Kill: func() error { s.note("kill"); return nil },
		Wait: func() (string, error) { s.note("wait"); return "exit status 3", nil },
	}, nil
}

type noted struct {
	s    *stage
	what string
}

func (n noted) Close() error { n.s.note(n.what); return nil }

// A unixListener tells whether it would unlink its path.
type unixListener struct {
	net.Listener
	unlinks bool
}

func (l *unixListener) SetUnlinkOnClose(unlink bool) { l.unlinks = unlink }

// upgrade runs one, while the child does something.
func (s *stage) upgrade(ctx context.Context, child func(net.Conn), sockets ...Handed) (int, error) {
	s.plays = child
	return s.Upgrade(ctx, sockets, []string{"NOTIFY_SOCKET=/n"})
}

func ready(c net.Conn) { c.Write([]byte{readyWord}) }
func ends(c net.Conn)  { c.Close() }
func hangs(net.Conn)   {}

func (s *stage) expectNotes(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.notes, want) {
		t.Errorf("notes %v, want %v", s.notes, want)
	}
}

func expectError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
}

// systemd must know its new main process before that one says READY=1, so the
// announcement comes before the child hears.
func TestAReadyChildIsAnnouncedAndThenHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newStage(), &unixListener{unlinks: true}
		pid, err := s.upgrade(t.Context(), ready, Handed{"x", l})
		if pid != 42 || err != nil {
			t.Fatal(pid, err)
		}
		s.expectNotes(t, "start", "announce", "hear")
		if l.unlinks {
			t.Error("the old process would unlink the new one's path")
		}
		want := Command{"/bin/new", []string{"smtpseal", "run"}, []string{"A=b", "LISTEN_FDS=1", "LISTEN_FDNAMES=x", "NOTIFY_SOCKET=/n"}, []Handed{{"x", l}}}
		if got := s.started; got.Path != want.Path || !slices.Equal(got.Args, want.Args) || !slices.Equal(got.Env, want.Env) || !slices.Equal(got.Sockets, want.Sockets) {
			t.Errorf("started %v, want %v", got, want)
		}
		_, err = s.Upgrade(t.Context(), nil, nil)
		expectError(t, err, "replaced already by process 42")
	})
}

func TestAChildThatIsNeverReadyChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		child  func(net.Conn)
		within time.Duration
		says   string
	}{
		"ends":        {ends, 0, "new process 42: ended before it was ready: exit status 3"},
		"hangs":       {hangs, time.Minute, "new process 42: not ready after 1m0s"},
		"other words": {func(c net.Conn) { c.Write([]byte("?")) }, 0, `new process 42: said "?" instead of being ready`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l, began := newStage(), &unixListener{unlinks: true}, time.Now()
				pid, err := s.upgrade(t.Context(), c.child, Handed{"x", l})
				expectError(t, err, c.says)
				s.expectNotes(t, "start", "kill", "wait", "hear")
				if pid != 0 || !l.unlinks {
					t.Errorf("pid %d, unlinks %v", pid, l.unlinks)
				}
				if took := time.Since(began); took != c.within {
					t.Errorf("took %v, want %v", took, c.within)
				}
				if pid, err := s.upgrade(t.Context(), ready); pid != 42 || err != nil {
					t.Errorf("the next upgrade: %d, %v", pid, err)
				}
			})
		})
	}
}

// A request to stop ends an upgrade, too.
func TestTheEndOfTheContextEndsTheChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.upgrade(ctx, hangs)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.expectNotes(t, "start", "kill", "wait", "hear")
		s.notes = nil
		if _, err := s.Upgrade(ctx, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.expectNotes(t)
	})
}

func TestOneUpgradeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		_, err := s.upgrade(t.Context(), func(c net.Conn) {
			if _, err := s.Upgrade(t.Context(), nil, nil); err != ErrUnderWay {
				t.Errorf("the second says %v", err)
			}
			ready(c)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestWhatCannotBeStartedIsNamed(t *testing.T) {
	s := newStage()
	s.OS.Start = func(Command) (*Child, error) { return nil, os.ErrPermission }
	_, err := s.Upgrade(t.Context(), nil, nil)
	expectError(t, err, "start /bin/new: permission denied")
	s.OS.Program = func() (string, []string, error) { return "", nil, io.ErrUnexpectedEOF }
	_, err = s.Upgrade(t.Context(), nil, nil)
	expectError(t, err, "find the program: unexpected EOF")
	s.expectNotes(t)
}
