package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pg "smtpseal/test/postgres"
)

// childURL makes a run of this test binary one of the processes below: it has
// the URL of a store, and the first argument after -- says what to do there.
const childURL = "SMTPSEAL_TEST_CHILD_URL"

const (
	childRounds = 15
	childLease  = 2 * time.Second
)

// TestPostgresChild is the other processes' whole life.
func TestPostgresChild(t *testing.T) {
	if os.Getenv(childURL) == "" {
		return
	}
	s, err := Open(context.Background(), Options{Type: "postgres", URL: os.Getenv(childURL), Lease: childLease})
	must(t, err)
	switch work := os.Args[len(os.Args)-1]; work {
	case "count":
		for range childRounds {
			must(t, countUp(s))
		}
	case "hold":
		must(t, s.Lock(context.Background(), "held"))
		fmt.Println("locked")
		io.Copy(io.Discard, os.Stdin)
		fmt.Println("unlock:", errors.Is(s.Unlock(context.Background(), "held"), ErrLockLost))
	default:
		t.Fatal(work)
	}
	must(t, s.Close())
}

// countUp loses counts if two do it at the same time.
func countUp(s Store) error {
	ctx := context.Background()
	if err := s.Lock(ctx, "count"); err != nil {
		return err
	}
	text, err := s.Load(ctx, "count")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	count, _ := strconv.Atoi(string(text))
	time.Sleep(5 * time.Millisecond)
	return errors.Join(s.Store(ctx, "count", fmt.Append(nil, count+1)), s.Unlock(ctx, "count"))
}

// A child is another process with a Store.
type child struct {
	*exec.Cmd
	stdin io.Closer
	said  *bufio.Scanner
}

func startChild(t *testing.T, url, work string) *child {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestPostgresChild$", "--", work)
	command.Env = append(os.Environ(), childURL+"="+url)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	must(t, err)
	stdout, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() { // nothing, if it has been waited for
		command.Process.Kill()
		command.Wait()
	})
	return &child{command, stdin, bufio.NewScanner(stdout)}
}

// says waits for a line of the child's.
func (c *child) says(t *testing.T, line string) {
	t.Helper()
	for c.said.Scan() {
		if c.said.Text() == line {
			return
		}
	}
	t.Fatalf("the other process never said %q", line)
}

func TestPostgresThreeProcessesTakeTurns(t *testing.T) {
	srv := pg.Start(t)
	var all []*child
	for range 3 {
		all = append(all, startChild(t, srv.URL(), "count"))
	}
	for _, c := range all {
		c.says(t, "PASS")
		must(t, c.Wait())
	}
	s := opener(Options{Type: "postgres", URL: srv.URL()})(t)
	if count, err := s.Load(t.Context(), "count"); err != nil || string(count) != fmt.Sprint(3*childRounds) {
		t.Errorf("counted to %s, %v", count, err)
	}
}

func TestPostgresKilledProcessGivesWay(t *testing.T) {
	srv := pg.Start(t)
	s := opener(Options{Type: "postgres", URL: srv.URL()})(t)
	c := startChild(t, srv.URL(), "hold")
	c.says(t, "locked")
	if tryLock(t, s, "held") {
		t.Fatal("two processes have one lock")
	}
	must(t, c.Process.Signal(syscall.SIGKILL))
	began := time.Now()
	must(t, s.Lock(soon(t, 3*childLease), "held"))
	if took := time.Since(began); took < childLease/3 || took > 2*childLease {
		t.Errorf("it took %v", took)
	}
	must(t, s.Unlock(t.Context(), "held"))
}

func TestPostgresFrozenProcessChangesNothing(t *testing.T) {
	srv := pg.Start(t)
	open := opener(Options{Type: "postgres", URL: srv.URL()})
	thief, third := open(t), open(t)
	c := startChild(t, srv.URL(), "hold")
	c.says(t, "locked")
	must(t, c.Process.Signal(syscall.SIGSTOP))
	must(t, thief.Lock(soon(t, 3*childLease), "held"))
	must(t, c.Process.Signal(syscall.SIGCONT))
	must(t, c.stdin.Close())
	c.says(t, "unlock: true") // that it was lost
	must(t, c.Wait())
	if tryLock(t, third, "held") {
		t.Error("the late Unlock took the thief's lock along")
	}
	must(t, thief.Unlock(t.Context(), "held"))
	if !tryLock(t, third, "held") {
		t.Error("the lock is not free after all")
	}
}

// Of a server that is stopped, or crashes, and comes back, only those notice
// who ask meanwhile.
func TestPostgresServerComesBack(t *testing.T) {
	for name, stop := range map[string]func(*pg.Server) error{"stopped": (*pg.Server).Stop, "crashed": (*pg.Server).Crash} {
		t.Run(name, func(t *testing.T) {
			srv := pg.Start(t)
			o := Options{Type: "postgres", URL: srv.URL(), Lease: 10 * time.Second}
			open := func() Store {
				s, err := Open(t.Context(), o)
				must(t, err)
				t.Cleanup(func() { s.Close() })
				return s
			}
			holder, waiter := open(), open()
			must(t, holder.Store(t.Context(), "a/b", []byte("kept")))
			must(t, holder.Lock(t.Context(), "l"))
			waited := make(chan error, 1)
			go func() { waited <- waiter.Lock(t.Context(), "l") }()
			time.Sleep(o.Lease / 10) // it has asked

			must(t, stop(srv))
			late := open()
			for _, s := range []Store{holder, late} {
				began := time.Now()
				_, err := s.Load(t.Context(), "a/b")
				withoutPassword(t, err)
				if errors.Is(err, fs.ErrNotExist) || !strings.Contains(fmt.Sprint(err), "see whether the server runs") {
					t.Error(err)
				}
				if s.Exists(t.Context(), "a/b") || time.Since(began) > time.Second {
					t.Errorf("after %v", time.Since(began))
				}
				_, err = s.TryLock(t.Context(), "other")
				withoutPassword(t, err)
			}
			time.Sleep(o.Lease / 10) // the waiter has asked again
			must(t, srv.Again())

			for _, s := range []Store{holder, waiter, late} {
				if value, err := s.Load(t.Context(), "a/b"); err != nil || string(value) != "kept" {
					t.Errorf("%q %v", value, err)
				}
			}
			select {
			case err := <-waited:
				t.Fatalf("the waiting ended with %v", err)
			case <-time.After(o.Lease / 5):
			}
			must(t, holder.Unlock(t.Context(), "l"))
			select {
			case err := <-waited:
				must(t, err)
			case <-time.After(o.Lease / 2):
				t.Fatal("the lock is not passed on")
			}
			must(t, waiter.Unlock(t.Context(), "l"))
		})
	}
}
