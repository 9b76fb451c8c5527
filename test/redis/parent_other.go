//go:build !linux

package redis

import "syscall"

func dieWithParent(*syscall.SysProcAttr) {}
