package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopGrace is how long a process may take to end by itself after TERM: the
// proxy under test is told to drain in one second.
const stopGrace = 3 * time.Second

// A process is a child of ours. Whoever started it stops it.
type process struct {
	cmd  *exec.Cmd
	log  string // the file that has its output
	done chan struct{}
}

// start runs a program with its output in a file: a pipe would be read by us,
// and the wake-ups be charged to both.
func start(log string, env []string, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	defer out.Close()
	p := &process{cmd: exec.Command(program, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	// Its own group, so that ^C reaches us alone and we end it in order; and
	// the kernel ends it should we be killed without a chance to.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports, with the end of its output, that the process is gone.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s: %s", p.cmd.Path, p.cmd.ProcessState, tail(p.log))
	default:
		return nil
	}
}

// stop asks, then kills. It returns when the process has been waited for.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(stopGrace):
	}
	p.cmd.Process.Kill()
	<-p.done
}

// tail is the last kilobyte of a file: why a program gave up.
func tail(file string) string {
	const most = 1024
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// awaitListener waits until somebody accepts at addr, or p has ended.
func awaitListener(p *process, addr string) error {
	const patience = 10 * time.Second
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		if err := p.ended(); err != nil {
			return err
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("await %s: %w", addr, err)
		}
	}
	return fmt.Errorf("await %s: nobody listens: %s", addr, tail(p.log))
}
