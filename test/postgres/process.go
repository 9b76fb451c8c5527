package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"smtpseal/test/debian"
)

// nobody owns the data when the tests are root's: PostgreSQL refuses to be root.
const nobody = 65534

// prepare makes the data directory. It has one superuser, who needs a password
// by TCP and by socket.
func (s *Server) prepare() error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(Password), 0o600); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := s.reach(); err != nil {
			return err
		}
		for _, path := range []string{s.dir, secret} {
			if err := os.Chown(path, nobody, nobody); err != nil {
				return err
			}
		}
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", user, "-A", "scram-sha-256", "--pwfile="+secret,
		"-E", "UTF8", "--no-locale", "--no-sync")
	if err := initdb.Run(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, s.Log())
	}
	return os.Remove(secret)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command is one of PostgreSQL's programs, run as a user whom it accepts, that
// cannot outlive the test.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	found, _ := filepath.Glob(filepath.Join(s.root, "usr/lib/postgresql/*/bin", program))
	if len(found) == 0 {
		found = []string{program} // the error says that it is missing
	}
	command := exec.Command(found[len(found)-1], args...)
	command.Dir = s.dir
	command.Env = []string{"LD_LIBRARY_PATH=" + debian.LibraryPath(s.root), "LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	command.Stdout, command.Stderr = &s.log, &s.log
	// Immediate shutdown is what SIGQUIT means to the postmaster; its children
	// see it go. A group of its own, so that Ctrl-C at the test is not theirs.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	if os.Geteuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return command
}

// reach copies the programs when nobody cannot get at them, because the working
// tree is below /root, say. A capability would not do: access(2) ignores it.
func (s *Server) reach() error {
	if open(s.root) {
		return nil
	}
	reachable := filepath.Join(s.dir, "debian")
	for _, pattern := range []string{"usr/lib/postgresql", "usr/share/postgresql", "usr/lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(filepath.Join(s.root, pattern))
		for _, path := range found {
			copied := reachable + strings.TrimPrefix(path, s.root)
			if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
				return err
			}
		}
	}
	s.root = reachable
	return nil
}

// open reports whether everybody can get at a directory.
func open(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		stat, err := os.Stat(dir)
		if err != nil || stat.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// Again starts the server after a Stop, with its data, on its port, and waits
// until it answers.
func (s *Server) Again() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, port, _ := net.SplitHostPort(s.addr)
	process := s.command("postgres", "-D", s.data(), "-F", "-c", "listen_addresses=127.0.0.1", "-c", "port="+port,
		"-c", "unix_socket_directories="+s.dir, "-c", "shared_buffers=16MB", "-c", "max_connections=60")
	if err := process.Start(); err != nil {
		return err
	}
	s.process = process
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.answers(ctx); err != nil {
		return errors.Join(err, s.end(syscall.SIGQUIT))
	}
	return nil
}

// answers asks again and again: a server that starts accepts connections before
// it answers on them.
func (s *Server) answers(ctx context.Context) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("start on %s: %w", s.addr, err)
		}
	}
}

// Stop ends the server and cuts every connection, as an operator's restart
// does. Its data stays.
func (s *Server) Stop() error { return s.stop(syscall.SIGINT) }

// Crash ends it as a failing machine does; Again recovers.
func (s *Server) Crash() error { return s.stop(syscall.SIGQUIT) }

func (s *Server) stop(how syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(how)
}

// end waits for the postmaster, which waits for all its processes; mu is held.
func (s *Server) end(how syscall.Signal) error {
	process := s.process
	if process == nil {
		return nil
	}
	s.process = nil
	if err := process.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	stuck := time.AfterFunc(wait, func() { process.Process.Kill() })
	defer stuck.Stop()
	err := process.Wait()
	var exit *exec.ExitError
	// After SIGQUIT it says that it did not end well, which was the purpose.
	if how == syscall.SIGQUIT && errors.As(err, &exit) && exit.Exited() {
		return nil
	}
	return err
}

// Close stops the server and removes its data.
func (s *Server) Close() error {
	return errors.Join(s.stop(syscall.SIGINT), os.RemoveAll(s.dir))
}
