// Package backend knows where the mail goes: the servers of an MTA, how to
// reach one, and how to tell it in a PROXY protocol header who the client is.
//
// A connection is born with all its facts in its header, and they never
// change; it serves one client and is never reused, so there is no pool. The
// header is the first thing on the wire, in one write, and the caller sends
// nothing behind it before the backend has greeted: Postfix and Dovecot look
// for it with a single peek, and OpenSMTPD loses what shares its segment.
//
// The package speaks no SMTP: greeting and replies are the session's.
package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Backend is one MTA: its servers and how to greet them. It is not changed
// once sessions use it.
type Backend struct {
	Name    string
	Servers []Server // tried in this order
	Proxy   Version
	TLVs    TLV
	Hide    []string // EHLO keywords in capitals to keep from clients; a trailing * matches any ending

	// Dialer opens connections; nil means TCP and unix sockets of this host.
	Dialer Dialer
}

// A Server is one address of a backend.
type Server struct {
	Network string // tcp or unix
	Addr    string // host:port, or a path
}

// String returns the address as the configuration writes it.
func (s Server) String() string {
	if s.Network == "unix" {
		return "unix:" + s.Addr
	}
	return s.Addr
}

// A Dialer opens a connection; a *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// direct turns off TCP keep-alive: it costs eight system calls a connection,
// and the deadlines of a session end a dead one sooner.
var direct = &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}

// A Birth is what came of a dial: the connection and how it began.
type Birth struct {
	Conn    net.Conn // the caller closes it
	Server  Server
	Dropped TLV // what did not fit into the header
}

// Dial connects to the first server that answers and introduces the client to
// it. Each server gets an even share of what is left until deadline, so that
// one that swallows packets does not keep the next from being tried.
func (b *Backend) Dial(deadline time.Time, f Facts) (Birth, error) {
	header, dropped, err := b.Header(f)
	if err != nil {
		return Birth{}, err
	}
	if len(b.Servers) == 0 {
		return Birth{}, errors.New("no servers")
	}
	var failed []error
	for i, server := range b.Servers {
		share := time.Until(deadline) / time.Duration(len(b.Servers)-i)
		conn, err := b.open(server, time.Now().Add(share), header)
		if err == nil {
			return Birth{Conn: conn, Server: server, Dropped: dropped}, nil
		}
		failed = append(failed, err)
	}
	return Birth{}, errors.Join(failed...)
}

func (b *Backend) open(server Server, deadline time.Time, header []byte) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	var dialer Dialer = direct
	if b.Dialer != nil {
		dialer = b.Dialer
	}
	conn, err := dialer.DialContext(ctx, server.Network, server.Addr)
	if err != nil {
		return nil, err // net says "dial tcp ADDRESS: cause" itself
	}
	if len(header) == 0 {
		return conn, nil
	}
	conn.SetWriteDeadline(deadline)
	if _, err := conn.Write(header); err != nil {
		conn.Close()
		return nil, fmt.Errorf("write PROXY header to %s: %w", server, err)
	}
	return conn, nil
}

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
