package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A Server is the admin listener. Its fields are set before Serve and not
// changed afterwards, but by Allow; Hosts, Pprof and Log may be left out.
type Server struct {
	Status func() Status                             // what there is to say now; asked at every request, by many at once
	Drain  func()                                    // begins to drain, and returns; more than once is no mistake
	Reload func(context.Context) Reload              // reloads the configuration, one at a time
	Renew  func(ctx context.Context, n string) error // renews the certificates for a name; ErrNoSuchName

	Hosts []string // names by which people and pages may ask: admin.hosts, and the host in admin.listen
	Pprof bool     // serve /debug/pprof/
	Log   *zap.Logger

	once    sync.Once
	http    *http.Server
	loud    *zap.Logger
	allowed atomic.Pointer[access]

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	accepting int               // loops, which may hold a connection that is not among the busy yet
	busy      map[net.Conn]bool // connections with a request under way, or about to come
	ending    bool
}

// access is what a reload can change.
type access struct {
	hosts []string
	pprof bool
}

// Allow replaces Hosts and Pprof while the Server serves.
func (s *Server) Allow(hosts []string, pprof bool) { s.allowed.Store(&access{hosts, pprof}) }

func (s *Server) access() access {
	if a := s.allowed.Load(); a != nil {
		return *a
	}
	return access{s.Hosts, s.Pprof}
}

// ErrNoSuchName is what Renew answers for a name that no certificate is for.
var ErrNoSuchName = errors.New("no certificate is obtained for this name")

// serverName is in every answer's Server header, so that a Client knows whom it
// has met.
const serverName = "smtpseal"

const (
	// Connections at once, against whoever opens them until we are out of
	// descriptors: the sessions need those. See places.
	maxConnections = 64

	// Octets of a request's header, against memory; ours has a few hundred.
	// net/http allows some thousand more.
	maxHeader = 8 << 10

	// For the header, and for a body that nobody asked for, against clients that
	// send an octet now and then to keep their place.
	readTimeout = 5 * time.Second

	// For an answer, against clients that do not read it. pprof and the long
	// changes get more.
	writeTimeout = 30 * time.Second

	// Between two requests, against clients that stay. Longer than it takes a
	// Prometheus to come again.
	idleTimeout = 90 * time.Second

	// For a reload or a renewal: longer than a certificate is waited for, yet not
	// so long that a stuck one holds a place forever.
	changeTimeout = 15 * time.Minute

	// Lines about refused requests a minute: a page in somebody's browser could
	// send thousands.
	refusalsPerMinute = 3
)

func (s *Server) init() {
	log := s.Log
	if log == nil {
		log = zap.NewNop()
	}
	s.loud = log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, refusalsPerMinute, 0)
	}))
	complaints, _ := zap.NewStdLogAt(s.loud, zap.WarnLevel) // net/http's: panics, and accepts that failed
	s.http = &http.Server{
		Handler:           keepPlaces(s.Handler()),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          complaints,
		ConnState:         s.note,
		ConnContext:       withPlace,
	}
}

// note is told what becomes of each connection.
func (s *Server) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew || state == http.StateActive {
		if s.busy == nil {
			s.busy = map[net.Conn]bool{}
		}
		s.busy[conn] = true
		return
	}
	delete(s.busy, conn)
}

func (s *Server) log() *zap.Logger {
	s.once.Do(s.init)
	return s.loud
}

// Serve answers on a listener, which it owns from then on, until Shutdown.
func (s *Server) Serve(listener net.Listener) error {
	s.once.Do(s.init)
	listener = once{listener, sync.OnceValue(listener.Close)}
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return listener.Close()
	}
	s.listeners = append(s.listeners, listener)
	s.accepting++
	s.mu.Unlock()
	err := s.http.Serve(&places{Listener: listener})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting--
	if errors.Is(err, http.ErrServerClosed) || s.ending && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A once is a listener that is closed once, by us or by net/http.
type once struct {
	net.Listener
	close func() error
}

func (o once) Close() error { return o.close() }

// Shutdown closes the listeners and waits for what is being answered, until ctx
// ends; what is left then is cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(s.init)
	s.stopListening(ctx)
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// A request that has just come is read within latecomers, which bounds the wait
// for a connection that never asks anything.
const (
	latecomers     = 500 * time.Millisecond
	latecomersPoll = 5 * time.Millisecond
)

// stopListening closes the listeners, and lets who has come ask: net/http drops
// a request that it reads once it shuts down. Who replaces us may have the same
// socket, and its clients cannot know whose queue they are in.
func (s *Server) stopListening(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, latecomers)
	defer cancel()
	s.mu.Lock()
	s.ending = true
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	tick := time.NewTicker(latecomersPoll)
	defer tick.Stop()
	for s.isBusy() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) isBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepting > 0 || len(s.busy) > 0
}
