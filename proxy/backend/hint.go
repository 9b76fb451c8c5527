package backend

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// Symptom is how a backend behaves that expects another PROXY header than it
// got, or none.
type Symptom string

// What a wrong setting of proxy_protocol looks like from here.
const (
	Closed    Symptom = "closed the connection before any command"
	Silent    Symptom = "did not greet"
	Talkative Symptom = "spoke again after its greeting, before any command"
	Confused  Symptom = "does not know EHLO"
	Waited    Symptom = "refused after some seconds of silence"
)

// Mismatch says what a symptom most likely means, and which setting to look
// at on either side.
func (b *Backend) Mismatch(s Symptom) string {
	setting := "backends." + b.Name + ".proxy_protocol"
	if b.Proxy == Off {
		return fmt.Sprintf("the backend %s: if it expects a PROXY header, set %s: v2 (or v1)", s, setting)
	}
	return fmt.Sprintf("the backend %s: most likely it does not expect a PROXY %s header; "+
		"turn PROXY on there (Postfix: smtpd_upstream_proxy_protocol = haproxy), or look at %s", s, b.Proxy, setting)
}

// hint says in a sentence what to do about an error of a check or of a dial, or
// "" for one that it does not know.
func (b *Backend) hint(err error) string {
	if f := (*fault)(nil); errors.As(err, &f) {
		return f.hint
	}
	servers := "backends." + b.Name + ".servers"
	var unknown *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &unknown):
		return "the name cannot be resolved here: correct " + servers + ", or the name service of this host"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start the mail server, or correct " + servers
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket: start the mail server, or correct " + servers
	case errors.Is(err, fs.ErrPermission):
		return "smtpseal's user may not connect there: permit it on the socket or in the firewall"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "smtpseal has no file descriptors left: raise their limit (systemd: LimitNOFILE=)"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to the server: look at the network, or correct " + servers
	case errors.As(err, &timeout) && timeout.Timeout():
		return "nobody answers: the host is down, or a firewall swallows what we send; else correct " + servers
	}
	return ""
}

// greetingError says of a greeting that did not come what that most likely
// means: the error stands alone in a headline.
func (b *Backend) greetingError(err error) error {
	switch {
	case errors.Is(err, errSilent) && b.Proxy == Off:
		return fmt.Errorf("%w (it waits for a PROXY header, or it hangs)", err)
	case errors.Is(err, errSilent):
		return fmt.Errorf("%w (it does not expect our PROXY %s header, or it hangs)", err, b.Proxy)
	case errors.Is(err, errCut) && b.Proxy != Off:
		return fmt.Errorf("%w, as by a server that does not expect our PROXY %s header", err, b.Proxy)
	case errors.Is(err, errSurplus) && b.Proxy != Off:
		return fmt.Errorf("%w, as of a server that does not expect our PROXY %s header", err, b.Proxy)
	}
	return err
}

// greetingHint is for a greeting that did not come, or that is none.
func (b *Backend) greetingHint(err error) string {
	switch {
	case errors.Is(err, errSilent):
		return b.Mismatch(Silent) + "; or it hangs: its log, its DNS"
	case errors.Is(err, errAlien), errors.Is(err, errLong):
		return "what answers there speaks no SMTP: correct backends." + b.Name + ".servers, or backends." + b.Name + ".proxy_protocol"
	}
	return b.Mismatch(Closed)
}

// refusalHint is for a greeting that turns us away after so long.
func (b *Backend) refusalHint(waited time.Duration) string {
	if b.Proxy == Off && waited >= headerWait {
		return b.Mismatch(Waited)
	}
	return logHint
}
