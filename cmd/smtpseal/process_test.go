//go:build unix

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"smtpseal/test/talk"
)

// process runs the test binary as smtpseal, in a process of its own.
func process(t *testing.T, log io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = log, log
	t.Cleanup(func() {
		if cmd.Process != nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

func begin(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func TestSignalsOfTheOperatingSystem(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		log := new(tape)
		port := free(t)
		cmd := process(t, log, "run", "-c", write(t, "run.yaml", settings(port, silent(t), internalIn(t.TempDir()))))
		begin(t, cmd)
		log.await(t, `"message":"ready"`)
		cmd.Process.Signal(reloadSignal)
		log.await(t, "configuration reloaded")
		talk.With(t, dialTLS(t, port)).Play("< 220\n> EHLO client.example\n")
		cmd.Process.Signal(signal)
		log.await(t, `"message":"draining"`)
		cmd.Process.Signal(signal)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", signal, err, log)
		}
		log.await(t, `"message":"stopped"`)
	}
}

// When what reads our log goes away, Go would end the program at the next line
// with SIGPIPE, and all sessions with it.
func TestALogThatNobodyReadsEndsNoSession(t *testing.T) {
	read, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	port := free(t)
	cmd := process(t, nil, "run", "-c", write(t, "run.yaml", settings(port, silent(t), internalIn(t.TempDir()))))
	cmd.Stderr = writer
	begin(t, cmd)
	writer.Close()
	log := new(tape)
	copied := make(chan struct{})
	go func() { io.Copy(log, read); close(copied) }()
	log.await(t, `"message":"ready"`)
	read.Close()
	<-copied
	for range 3 { // each session would write a line when it ends
		conn := dialTLS(t, port)
		talk.With(t, conn).Play("< 220\n")
		conn.Close()
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
}

// A real refusal: somebody without any right wants 465.
func TestNobodyWhoWants465IsToldHow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if least, _ := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || least <= 465 {
		t.Skip("this system lets everybody listen on 465, so nothing can be refused")
	}
	dir, err := os.MkdirTemp("", "smtpseal-nobody-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "run.yaml")
	if err := os.WriteFile(file, []byte(settings("127.0.0.1:465", "127.0.0.1:25", internalIn(filepath.Join(dir, "storage")))), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	log := new(tape)
	cmd := process(t, log, "run", "-c", file)
	if os.Getuid() == 0 {
		// The binary lies in a directory that only root may enter; the kernel
		// finds it by this link without walking the path.
		cmd.Path = "/proc/self/exe"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = dir
	}
	begin(t, cmd)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !containsAll(log.String(), []string{
		"smtpseal: listen 127.0.0.1:465 (listener one): permission denied\n",
		"CAP_NET_BIND_SERVICE", "setcap ", "AmbientCapabilities=", "net.ipv4.ip_unprivileged_port_start",
	}) {
		t.Errorf("exit %d:\n%s", code, log)
	}
}
