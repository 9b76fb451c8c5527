package main

import (
	"fmt"

	"go.uber.org/zap"
)

// spareDescriptors is what the program needs beside its sessions: listeners,
// certificate files, the log, sessions that are just being refused.
const spareDescriptors = 64

// warnOfDescriptors says when the operating system's limit on open files will
// be reached before limits.max_sessions: each session has a client's socket and
// a backend's. Reaching it is no disaster, for new clients wait in the queue of
// the listener, but nobody would know why they wait.
func warnOfDescriptors(log *zap.Logger, sessions int) {
	have, ok := descriptors()
	want := 2*uint64(sessions) + spareDescriptors
	if !ok || have >= want {
		return
	}
	log.Warn("too few file descriptors for limits.max_sessions",
		zap.Uint64("have", have), zap.Uint64("want", want),
		zap.String("remedy", descriptorRemedy(have, want)))
}

func descriptorRemedy(have, want uint64) string {
	raise := fmt.Sprintf("set LimitNOFILE=%d in the systemd unit, or ulimit -Hn %d before the start", want, want)
	if have <= spareDescriptors {
		return raise
	}
	return fmt.Sprintf("%s, or max_sessions: %d", raise, (have-spareDescriptors)/2)
}
