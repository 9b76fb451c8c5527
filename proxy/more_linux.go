package proxy

import "syscall"

// sendMore writes to a socket and says that more is to come: the kernel waits
// for it, and a close counts.
func sendMore(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.SendmsgN(int(fd), p, nil, nil, syscall.MSG_MORE|syscall.MSG_NOSIGNAL)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
