package redis

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"smtpseal/test/debian"
)

// patience is how long a server may take to start or end on a busy machine.
const patience = 20 * time.Second

// A process is one life of a server.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when it has been waited for
	err     error         // of Wait, then
}

// configure writes the file that every life reads. The password is not on the
// command line, where the whole machine could read it.
func (s *Server) configure() error {
	_, port, _ := net.SplitHostPort(s.addr)
	listen := "port " + port
	if s.config.CertFile != "" {
		listen = fmt.Sprintf("port 0\ntls-port %s\ntls-auth-clients no\ntls-cert-file %q\ntls-key-file %q",
			port, s.config.CertFile, s.config.KeyFile)
	}
	text := fmt.Sprintf(`bind 127.0.0.1
%s
dir %q
requirepass %q
daemonize no
appendonly yes
appendfsync always
save ""
`, listen, s.dir, Password)
	return os.WriteFile(s.file(), []byte(text), 0o600)
}

func (s *Server) file() string { return filepath.Join(s.dir, "redis.conf") }

// Again starts the server after a Stop or Crash, with its data, on its port,
// and waits until it answers.
func (s *Server) Again() error {
	if s.process != nil {
		return errors.New("start: it runs")
	}
	command := exec.Command(filepath.Join(s.root, "usr/bin/redis-server"), s.file())
	command.Dir = s.dir
	command.Env = []string{"LD_LIBRARY_PATH=" + debian.LibraryPath(s.root), "LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	command.Stdout, command.Stderr = &s.log, &s.log
	// A group of its own, so that Ctrl-C at the test is not its own.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(command.SysProcAttr)
	if err := command.Start(); err != nil {
		return err
	}
	s.process = &process{command: command, ended: make(chan struct{})}
	go s.process.wait()
	if err := s.ready(); err != nil {
		return errors.Join(err, s.Crash(), errors.New(s.Log()))
	}
	return nil
}

func (p *process) wait() {
	p.err = p.command.Wait()
	close(p.ended)
}

// ready waits until the server accepts: it does so only when its data is
// loaded, or refuses with LOADING, which Again is not to end with either.
func (s *Server) ready() error {
	deadline := time.Now().Add(patience)
	for !strings.Contains(s.life(), "Ready to accept connections") {
		select {
		case <-s.process.ended:
			return errors.New("redis-server has ended at once")
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("redis-server not ready in %s", patience)
		}
	}
	return nil
}

// life is the log of this process: every line begins with its id.
func (s *Server) life() string {
	mine := fmt.Sprintf("%d:", s.process.command.Process.Pid)
	var lines strings.Builder
	for line := range strings.Lines(s.Log()) {
		if strings.HasPrefix(line, mine) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// Stop ends the server, its connections with it; its data stays. A second time
// does nothing.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	s.Thaw()
	s.process.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.process.ended:
		err := s.process.err
		s.process = nil
		return err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("redis-server did not end in %s", patience), s.Crash())
	}
}

// Crash ends the server as a failing machine does.
func (s *Server) Crash() error {
	if s.process == nil {
		return nil
	}
	err := s.process.command.Process.Kill()
	<-s.process.ended
	s.process = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Freeze makes the server silent: its port is open, and nobody answers.
func (s *Server) Freeze() { s.process.command.Process.Signal(syscall.SIGSTOP) }

// Thaw lets it go on, with what has come in meanwhile.
func (s *Server) Thaw() { s.process.command.Process.Signal(syscall.SIGCONT) }
