//go:build unix

package certs

import (
	"os/exec"
	"syscall"
)

// ownGroup makes a command the leader of a process group that is killed as a
// whole: a shell script's children would live on.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
