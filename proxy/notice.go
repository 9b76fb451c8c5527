package proxy

import (
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"smtpseal/proxy/smtp"
)

// notices remembers what an operator has been told, so that one client's
// mistake is one line an hour.
type notices struct {
	mu   sync.Mutex
	seen map[netip.Prefix]time.Time
}

// maxNotices bounds the memory that clients from everywhere can take; over it
// nothing is said until old entries have expired.
const (
	maxNotices  = 4096
	noticeEvery = time.Hour
)

// first reports whether nothing was said of this client within the hour.
func (n *notices) first(client netip.Prefix, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if told, ok := n.seen[client]; ok && now.Sub(told) < noticeEvery {
		return false
	}
	if len(n.seen) >= maxNotices {
		for c, told := range n.seen {
			if now.Sub(told) >= noticeEvery {
				delete(n.seen, c)
			}
		}
		if len(n.seen) >= maxNotices {
			return false
		}
	}
	if n.seen == nil {
		n.seen = map[netip.Prefix]time.Time{}
	}
	n.seen[client] = now
	return true
}

// wrongMode tells the operator of a client that is set up for another port, by
// the first octets that it sent. Noise is not worth a line.
func (s *session) wrongMode(first []byte) {
	var mistake, want string
	var mode Mode
	switch {
	case s.listener.Mode != Implicit && smtp.AlienIn(first) == smtp.AlienTLS:
		mistake, want, mode = "client speaks TLS at once where STARTTLS is expected", "465", Implicit
	case s.listener.Mode == Implicit && smtp.LooksLikeSMTP(first):
		mistake, want, mode = "client speaks plain SMTP where TLS is expected", "587", StartTLS
	default:
		return
	}
	if !s.host.IsValid() || !s.server.notices.first(s.host, time.Now()) {
		return
	}
	s.server.log().Info(mistake, zap.String("session", s.rec.Session), zap.String("listener", s.listener.Name),
		zap.Stringer("client", s.rec.Client.Addr()), zap.String("right_port", s.settings.portOf(mode, want)))
}
