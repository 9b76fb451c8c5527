//go:build !windows

package proxy

import "syscall"

// canTryRead says that sockets are read without waiting.
const canTryRead = true

// tryRead reads what is there; EAGAIN says that nothing is.
func tryRead(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
