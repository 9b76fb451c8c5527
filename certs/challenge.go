package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// The challenge servers are open to everybody, so all they do is bounded: a
// request in size and time, connections in number. Neither of them looks into
// the storage for a name that is not ours.
const (
	challengeTimeout = 10 * time.Second
	challengeHeader  = 8 << 10
	challengeConns   = 256
)

// HTTPChallenge answers HTTP-01 (RFC 8555 section 8.3) for the names of this
// Source, also when another process with the same storage has begun the
// challenge, and 404 to all else.
func (s *Source) HTTPChallenge() http.Handler {
	none := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This port answers ACME challenges only.", http.StatusNotFound)
	})
	if s.acme == nil {
		return none
	}
	handler := s.acme.issuers[0].HTTPChallengeHandler(none) // it looks for those of all CAs
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		name, ours := s.ours(hostOf(r.Host))
		if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") || !ours {
			none(w, r)
			return
		}
		r.Host = name // as we spell it, whatever way the client does: it becomes a path in the storage
		if strings.Contains(name, ":") {
			r.Host = "[" + name + "]"
		}
		handler.ServeHTTP(w, r)
	})
}

func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

// ours reports whether a name is one that ACME is asked for, and how we spell it.
// It may be the reverse name of an address, by which TLS-ALPN-01 asks (RFC 8738
// section 6).
func (s *Source) ours(name string) (string, bool) {
	name, err := internalName(name)
	names := s.acmeNames.Load()
	return name, err == nil && names != nil && (*names)[name]
}

// ALPNChallenge answers TLS-ALPN-01 (RFC 8737) the same way, and no other
// handshake. It is for a listener of its own: mail ports never answer it.
func (s *Source) ALPNChallenge() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{acmez.ACMETLS1Protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name, ours := s.ours(hello.ServerName)
			if s.acme == nil || len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol || !ours {
				return nil, errNotAChallenge
			}
			canonical := *hello
			canonical.ServerName = name
			return s.acme.answers.GetCertificate(&canonical)
		},
		SessionTicketsDisabled: true,
	}
}

var errNotAChallenge = errors.New("no ACME challenge for this name")

// ServeChallenges answers on the listeners until ctx ends, and closes them.
func (s *Source) ServeChallenges(ctx context.Context, http01, alpn []net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	server := &http.Server{
		Handler:        s.HTTPChallenge(),
		ReadTimeout:    challengeTimeout,
		WriteTimeout:   challengeTimeout,
		IdleTimeout:    time.Second,
		MaxHeaderBytes: challengeHeader,
		ErrorLog:       stdlog.New(io.Discard, "", 0), // the Internet is loud
	}
	for _, l := range http01 {
		all.Go(func() {
			if err := server.Serve(atMost(l)); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("challenges are not answered any more", zap.Stringer("address", l.Addr()), zap.Error(err))
			}
		})
	}
	settings := s.ALPNChallenge()
	for _, l := range alpn {
		all.Go(func() { s.serveALPN(ctx, tls.NewListener(atMost(l), settings)) })
	}
	<-ctx.Done()
	server.Close()
	for _, l := range alpn {
		l.Close()
	}
}

// serveALPN makes handshakes, which are all there is to say.
func (s *Source) serveALPN(ctx context.Context, l net.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	for pause := 5 * time.Millisecond; ; {
		c, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if c != nil {
				c.Close()
			}
			return
		}
		if err != nil { // no descriptors left, perhaps: it passes
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		all.Go(func() {
			defer c.Close()
			ctx, cancel := context.WithTimeout(ctx, challengeTimeout)
			defer cancel()
			c.(*tls.Conn).HandshakeContext(ctx)
		})
	}
}

// atMost lets a listener have challengeConns connections at once; others wait
// in the kernel's queue.
func atMost(l net.Listener) net.Listener { return netutil.LimitListener(l, challengeConns) }
