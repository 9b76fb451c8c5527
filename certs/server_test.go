package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// open returns a Source that is closed with the test, and what it logs.
func open(t testing.TB, o Options) (*Source, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	o.Log = zap.New(core)
	s, err := Open(context.Background(), o)
	must(t, err)
	t.Cleanup(s.Close)
	return s, logs
}

// run runs a Source until the test ends and checks that nothing of it is left.
func run(t testing.TB, s *Source) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func config(t testing.TB, s *Source, p Policy) *tls.Config {
	t.Helper()
	c, err := s.TLSConfig(p)
	must(t, err)
	return c
}

// serve accepts TLS on loopback and echoes one line; it returns its address.
// All connections have ended when the test has.
func serve(t testing.TB, c *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { echo(tls.Server(conn, c)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

func echo(conn *tls.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 16)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
	}
}

// dial shakes hands and sends an octet to and fro, without which a TLS 1.3
// client does not hear that its certificate was refused.
func dial(addr string, c *tls.Config) (tls.ConnectionState, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	client := tls.Client(conn, c)
	if _, err := client.Write([]byte("x")); err != nil {
		return client.ConnectionState(), fmt.Errorf("handshake: %w", err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		return client.ConnectionState(), fmt.Errorf("echo: %w", err)
	}
	return client.ConnectionState(), nil
}

// served returns the serial number of the certificate that a client without a
// server name gets.
func served(t testing.TB, s *Source) string {
	t.Helper()
	c, err := s.getCertificate(&tls.ClientHelloInfo{})
	must(t, err)
	return serialOf(c.Leaf)
}

func count(logs *observer.ObservedLogs, message string) int {
	return logs.FilterMessage(message).Len()
}

// noGoroutines waits until none of this package or of certmagic is left, but
// for certmagic's lock keepers: they end within five seconds of their lock, and
// the tests in synctest bubbles fail if one does not. And but for its rate
// limiters, one for each CA and account, which live as long as the process.
func noGoroutines(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := ours()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines left:\n%s", strings.Join(left, "\n\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func ours() []string {
	buf := make([]byte, 1<<20)
	var left []string
	for i, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		ours := strings.Contains(stack, "certs.(*") || strings.Contains(stack, "certmagic")
		if i > 0 && ours && !strings.Contains(stack, "keepLockfileFresh") && !strings.Contains(stack, "RateLimiter") {
			left = append(left, stack)
		}
	}
	return left
}
