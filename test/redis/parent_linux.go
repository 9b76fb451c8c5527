package redis

import "syscall"

// dieWithParent is for a test that is killed, by its time-out for one.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
