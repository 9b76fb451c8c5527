//go:build unix

package dns

import (
	"os/exec"
	"syscall"
)

// together makes a program and all that it starts one process group, which a
// time-out kills whole. The shell script alone would leave its curl behind.
func together(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
}
