package storage

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The test binary is also the other processes: with roleVariable set it plays a
// role with the store of storeVariable, and talks on standard output.
const (
	roleVariable  = "STORAGE_TEST_ROLE"
	storeVariable = "STORAGE_TEST_OPTIONS"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// openOptions is Options without what hides its secrets.
type openOptions Options

func play(role string) error {
	var o openOptions
	if err := json.Unmarshal([]byte(os.Getenv(storeVariable)), &o); err != nil {
		return err
	}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"})
	o.Log = zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stdout), zap.WarnLevel))
	// Bounded, in case nobody ends what a failed test has left.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Open(ctx, Options(o))
	if err != nil {
		return err
	}
	defer s.Close()
	if place, found := strings.CutPrefix(role, "race "); found {
		return race(ctx, s, place)
	}
	if err := s.Lock(ctx, "held"); err != nil {
		return err
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin) // until told, or orphaned
	fmt.Println("unlock:", s.Unlock(ctx, "held"))
	return nil
}

const raceRounds = 8

// race counts in a file, under the lock, in a way that loses counts if another
// does so at the same time; and tells at once if another is there.
func race(ctx context.Context, s Store, place string) error {
	for range raceRounds {
		if err := s.Lock(ctx, "race"); err != nil {
			return err
		}
		if err := count(place); err != nil {
			return err
		}
		if err := s.Unlock(ctx, "race"); err != nil {
			return err
		}
	}
	return nil
}

func count(place string) error {
	inside, err := os.OpenFile(filepath.Join(place, "inside"), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("two inside: %w", err)
	}
	defer os.Remove(inside.Name())
	defer inside.Close()
	n := counted(place)
	time.Sleep(5 * time.Millisecond)
	return os.WriteFile(filepath.Join(place, "count"), []byte(strconv.Itoa(n+1)), 0o600)
}

func counted(place string) int {
	text, _ := os.ReadFile(filepath.Join(place, "count"))
	n, _ := strconv.Atoi(string(text))
	return n
}

// A player is a process that plays a role.
type player struct {
	process *exec.Cmd
	input   io.Closer
	lines   chan string // what it says, closed at its end
}

func start(t *testing.T, role string, o Options) *player {
	t.Helper()
	settings, err := json.Marshal(openOptions(o))
	must(t, err)
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), roleVariable+"="+role, storeVariable+"="+string(settings))
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	must(t, err)
	output, err := process.StdoutPipe()
	must(t, err)
	must(t, process.Start())
	p := &player{process, input, make(chan string, 100)}
	go p.listen(output)
	t.Cleanup(func() {
		process.Process.Kill()
		for range p.lines {
		}
		process.Wait()
	})
	return p
}

func (p *player) listen(output io.Reader) {
	defer close(p.lines)
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		p.lines <- scanner.Text()
	}
}

// says waits for a line with text in it.
func (p *player) says(t *testing.T, text string) {
	t.Helper()
	late := time.After(30 * time.Second)
	var heard []string
	for {
		select {
		case line, more := <-p.lines:
			heard = append(heard, line)
			if strings.Contains(line, text) {
				return
			}
			if !more {
				t.Fatalf("no %q in %q", text, heard)
			}
		case <-late:
			t.Fatalf("no %q for long; heard %q", text, heard)
		}
	}
}

// freeze returns when the process stands still, which the signal does not wait
// for.
func (p *player) freeze(t *testing.T) {
	t.Helper()
	must(t, p.process.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.process.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("freeze: %v, %v", status, err)
	}
}

func (p *player) thaw(t *testing.T) {
	t.Helper()
	must(t, p.process.Process.Signal(syscall.SIGCONT))
}

func TestProcessesRaceForALock(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) {
		t.Parallel()
		place := t.TempDir()
		var all []*player
		for range 3 {
			all = append(all, start(t, "race "+place, o))
		}
		for _, p := range all {
			for line := range p.lines {
				t.Error(line)
			}
			if err := p.process.Wait(); err != nil {
				t.Error(err)
			}
		}
		if n := counted(place); n != 3*raceRounds {
			t.Errorf("%d rounds counted of %d", n, 3*raceRounds)
		}
	})
}

func TestKilledOwnerGivesWay(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) {
		t.Parallel()
		owner, next := start(t, "hold", o), opener(o)(t)
		owner.says(t, "held")
		killed := make(chan time.Time, 1)
		time.AfterFunc(testLease/2, func() { // while the next one waits
			owner.process.Process.Kill()
			killed <- time.Now()
		})
		must(t, next.Lock(soon(t, 5*testLease), "held"))
		if d := time.Since(<-killed); d < 0 || d > testLease+testLease/2 {
			t.Errorf("the next one has it after %v", d)
		}
		must(t, next.Unlock(t.Context(), "held"))
	})
}

func TestFrozenOwnerLosesItsLockAndLearnsIt(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) {
		t.Parallel()
		owner, next, third := start(t, "hold", o), opener(o)(t), opener(o)(t)
		owner.says(t, "held")
		owner.freeze(t)
		must(t, next.Lock(soon(t, 5*testLease), "held"))
		owner.thaw(t)
		owner.says(t, "lock lost")
		owner.input.Close()
		owner.says(t, "unlock: unlock held: the lock was lost")
		if tryLock(t, third, "held") {
			t.Error("the late Unlock took the next one's lock along")
		}
		must(t, next.Unlock(t.Context(), "held"))
	})
}

// As above, but the owner's first act may be its Unlock.
func TestFrozenOwnerUnlocksLate(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) {
		t.Parallel()
		owner, next, third := start(t, "hold", o), opener(o)(t), opener(o)(t)
		owner.says(t, "held")
		owner.freeze(t)
		owner.input.Close()
		must(t, next.Lock(soon(t, 5*testLease), "held"))
		owner.thaw(t)
		owner.says(t, "unlock: unlock held: the lock was lost")
		if tryLock(t, third, "held") {
			t.Error("the late Unlock took the next one's lock along")
		}
		must(t, next.Unlock(t.Context(), "held"))
	})
}
