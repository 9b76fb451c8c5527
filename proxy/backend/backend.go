// Package backend knows where the mail goes: the servers of an MTA, which of
// them serve, how to reach one, and how to tell it in a PROXY protocol header
// who the client is.
//
// A connection is born with all its facts in its header, and they never
// change; it serves one client and is never reused, so there is no pool. The
// header is the first thing on the wire, in one write, and the caller sends
// nothing behind it before the backend has greeted: Postfix and Dovecot look
// for it with a single peek, and OpenSMTPD loses what shares its segment.
//
// Of SMTP the package speaks what a check of a server's health needs (check.go),
// on connections of its own. A session's greeting and replies are the session's.
package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A Backend is one MTA: its servers, how to greet them and what is known of
// their health. Its fields are not changed once sessions use it; its methods
// may be called at any time by any number of goroutines.
type Backend struct {
	Name    string
	Servers []Server // tried in this order, those that are down last
	Proxy   Version
	TLVs    TLV
	Hide    []string // EHLO keywords in capitals to keep from clients; a trailing * matches any ending

	Health Health // its zero value checks nothing
	Helo   string // our name in the EHLO of a check; "" is localhost

	// Dialer opens connections; nil means TCP and unix sockets of this host.
	Dialer Dialer

	mu     sync.Mutex
	states []state  // as Servers; nil until needed
	order  []Server // in which Dial tries them, nil: as Servers. Replaced, never changed
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
// it. Servers that are down are tried after all others: the check that says so
// may be wrong, and mail that could flow must. Each server gets an even share of
// what is left until deadline, so that one that swallows packets does not keep
// the next from being tried. A failure counts as one of the server's health.
func (b *Backend) Dial(deadline time.Time, f Facts) (Birth, error) {
	return b.DialContext(context.Background(), deadline, f)
}

// DialContext is Dial for a caller who may lose interest: when ctx is done it
// returns at once, and nothing is said against a server.
func (b *Backend) DialContext(ctx context.Context, deadline time.Time, f Facts) (Birth, error) {
	header, dropped, err := b.Header(f)
	if err != nil {
		return Birth{}, err
	}
	if len(b.Servers) == 0 {
		return Birth{}, errors.New("no servers")
	}
	var failed []error
	servers := b.candidates()
	for i, server := range servers {
		share := time.Until(deadline) / time.Duration(len(servers)-i)
		conn, err := b.open(ctx, server, time.Now().Add(share), header)
		if err == nil {
			return Birth{Conn: conn, Server: server, Dropped: dropped}, nil
		}
		if ctx.Err() != nil {
			return Birth{}, err
		}
		if share > 0 { // else it was the session that had no time left
			b.Failed(server, err)
		}
		failed = append(failed, err)
	}
	return Birth{}, errors.Join(failed...)
}

func (b *Backend) open(ctx context.Context, server Server, deadline time.Time, header []byte) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := b.dial(ctx, server)
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

func (b *Backend) dial(ctx context.Context, server Server) (net.Conn, error) {
	var dialer Dialer = direct
	if b.Dialer != nil {
		dialer = b.Dialer
	}
	return dialer.DialContext(ctx, server.Network, server.Addr)
}
