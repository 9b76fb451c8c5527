package proxy

import "syscall"

// canTryRead: sockets of Windows are read by waiting with storage in hand.
const canTryRead = false

func tryRead(uintptr, []byte) (int, error) { return 0, syscall.EWINDOWS }

func sendMore(uintptr, []byte) (int, error) { return 0, syscall.EWINDOWS }
