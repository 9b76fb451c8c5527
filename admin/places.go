package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// A places listener bounds how many connections there are. When there is no
// place left, a new connection gets that of the one that has waited for its
// request, or with half of one, for the longest: else a few clients that say
// nothing would keep /livez from being answered, and whoever asks that ends
// the process, and all mail with it. One that is being answered keeps its place.
type places struct {
	net.Listener
	mu    sync.Mutex
	taken map[*place]struct{}
}

// A place is one connection's.
type place struct {
	net.Conn
	of       *places
	answered bool      // it is being answered; under of.mu, as is the next
	since    time.Time // since when it is not
}

// Accept turns away who comes while all are being answered.
func (p *places) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if one := p.take(conn); one != nil {
			return one, nil
		}
		conn.Close()
	}
}

func (p *places) take(conn net.Conn) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == nil {
		p.taken = map[*place]struct{}{}
	}
	if len(p.taken) >= maxConnections && !p.free() {
		return nil
	}
	one := &place{Conn: conn, of: p, since: time.Now()}
	p.taken[one] = struct{}{}
	return one
}

// free ends the connection that has waited for the longest, if one waits. It is
// called under mu.
func (p *places) free() bool {
	var longest *place
	for one := range p.taken {
		if !one.answered && (longest == nil || one.since.Before(longest.since)) {
			longest = one
		}
	}
	if longest == nil {
		return false
	}
	delete(p.taken, longest)
	longest.Conn.Close()
	return true
}

// Close gives the place back.
func (o *place) Close() error {
	o.of.mu.Lock()
	delete(o.of.taken, o)
	o.of.mu.Unlock()
	return o.Conn.Close()
}

func (o *place) mark(answered bool) {
	o.of.mu.Lock()
	defer o.of.mu.Unlock()
	o.answered, o.since = answered, time.Now()
}

type placeKey struct{}

// withPlace lets a request know its connection: http.Server's ConnContext.
func withPlace(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, conn)
}

// keepPlaces keeps the place of who is being answered.
func keepPlaces(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if one, ours := r.Context().Value(placeKey{}).(*place); ours {
			one.mark(true)
			defer one.mark(false)
		}
		next.ServeHTTP(w, r)
	})
}
