package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"smtpseal/config"
)

// listen opens one address. A host that is left out means IPv4 and IPv6, as
// always in Go. Keep-alive probes are off: every stage of a session has a
// deadline of its own, which ends a dead peer sooner and costs no packet.
func listen(ctx context.Context, addr config.Address) (net.Listener, error) {
	if addr.Network == "unix" {
		if err := removeStale(ctx, addr.Addr); err != nil {
			return nil, err
		}
	}
	lc := net.ListenConfig{KeepAlive: -1}
	return lc.Listen(ctx, addr.Network, addr.Addr)
}

// errAlive says that another process answers on a unix socket.
var errAlive = errors.New("another process is listening there")

// staleTimeout bounds the dial that tells a dead socket from a live one. A live
// one whose queue is full does not answer at all, and counts as alive.
const staleTimeout = 2 * time.Second

// removeStale makes way for a unix socket. A process that was killed leaves its
// path behind, and nothing but a refused dial tells it from one in use. What is
// no socket is never touched.
func removeStale(ctx context.Context, path string) error {
	found, err := os.Lstat(path)
	if err != nil || found.Mode()&os.ModeSocket == 0 {
		return nil // nothing there, or the bind will say what
	}
	dialer := net.Dialer{Timeout: staleTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return errAlive
	}
	if !isRefused(err) {
		return errAlive
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("replace the socket of a dead process: %w", err)
	}
	return nil
}
