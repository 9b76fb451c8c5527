package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A reload that changes this listener, and an upgrade, put another Server on the
// same socket while this one shuts down. A request that this one has accepted is
// answered all the same.
func TestARequestThatCameBeforeTheEndIsAnswered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Status: func() Status { return Status{} }}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for !s.asked() { // until it is accepted
		time.Sleep(time.Millisecond)
	}
	serving.Go(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	for refused := false; !refused; { // until nobody else is
		if other, err := net.Dial("tcp", l.Addr().String()); err != nil {
			refused = true
		} else {
			other.Close()
		}
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("answered %q, %v", answer, err)
	}
	serving.Wait()
}

// asked reports whether a connection was accepted.
func (s *Server) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.busy) > 0
}

// Who never asks does not hold up the end, and who serves behind it is told.
func TestNobodyHoldsUpTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Status: func() Status { return Status{} }}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for !s.asked() {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(late); err != nil {
		t.Errorf("serve behind the end: %v", err)
	}
	if _, err := net.Dial("tcp", late.Addr().String()); err == nil {
		t.Error("a listener that came behind the end is open")
	}
}

// One Server after the other has the same socket, and no client notices.
func TestServersTakeTurnsOnOneSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asking, serving sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		asking.Go(func() {
			client := Client{Network: "tcp", Addr: l.Addr().String()}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := client.Status(context.Background()); err != nil {
					t.Errorf("request %d: %v", n, err)
					return
				}
			}
		})
	}
	var before *Server
	for range 100 {
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		copied, err := net.FileListener(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		next := &Server{Status: func() Status { return Status{} }}
		serving.Go(func() {
			if err := next.Serve(copied); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
		if before != nil {
			if err := before.Shutdown(context.Background()); err != nil {
				t.Errorf("shutdown: %v", err)
			}
		}
		before = next
	}
	close(stop)
	asking.Wait()
	before.Shutdown(context.Background())
	serving.Wait()
}
