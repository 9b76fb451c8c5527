package probe

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Relay asks a mail server on a connection in clear, before whose greeting
// nothing was read, whether it would take mail from one address for another:
// EHLO, MAIL, RCPT, and then RSET and QUIT, never DATA. It returns the reply
// that decided, and an error if none did. The connection stays the caller's to
// close. All of it takes no longer than ctx, or 30 s.
func Relay(ctx context.Context, conn net.Conn, helo, from, to string) (accepted bool, decisive string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := converse(ctx, conn, 30*time.Second)
	defer c.cancel()
	greeting, err := c.hear()
	if err != nil {
		return false, "", fmt.Errorf("greeting: %w", err)
	}
	if greeting.code != 220 {
		return false, "", fmt.Errorf("greeted with %s", greeting)
	}
	if _, err := c.ehlo(helo); err != nil {
		return false, "", err
	}
	accepted, r, err := c.asksRelay(Envelope{from, to})
	if err == nil {
		c.ask("QUIT")
	}
	if r.code == 0 {
		return false, "", err
	}
	return accepted, fmt.Sprintf("%03d %s", r.code, printable(r.lines[0])), nil
}
