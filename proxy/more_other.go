//go:build !linux && !windows

package proxy

import "syscall"

func sendMore(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
