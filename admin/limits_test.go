package admin

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener without a network, so that time can be ours.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9465} }

func (p *pipes) Close() error { close(p.closed); return nil }

// dial waits until the server takes the connection.
func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// inTime runs a Server in a world of its own.
func inTime(t *testing.T, body func(*pipes, *Server)) {
	synctest.Test(t, func(t *testing.T) {
		listener, s := newPipes(), &Server{Status: busy}
		ended := make(chan error)
		go func() { ended <- s.Serve(listener) }()
		body(listener, s)
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// closedAfter reads until the end.
func closedAfter(conn net.Conn) time.Duration {
	begin := time.Now()
	io.Copy(io.Discard, conn)
	return time.Since(begin)
}

func TestSlowHeader(t *testing.T) {
	inTime(t, func(l *pipes, _ *Server) {
		conn := l.dial()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for _, octet := range []byte("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") {
				if _, err := conn.Write([]byte{octet}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if took := closedAfter(conn); took != readTimeout {
			t.Errorf("closed after %s", took)
		}
		<-sent
	})
}

func TestIdleConnection(t *testing.T) {
	inTime(t, func(l *pipes, _ *Server) {
		conn := l.dial()
		io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 200 {
			t.Errorf("%v %v", response, err)
		}
		if took := closedAfter(conn); took != idleTimeout {
			t.Errorf("closed after %s", took)
		}
	})
}

// A client that does not read its answer gives its place back.
func TestUnreadAnswer(t *testing.T) {
	inTime(t, func(l *pipes, _ *Server) {
		conn := l.dial()
		io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		time.Sleep(writeTimeout + time.Second)
		if n, _ := io.Copy(io.Discard, conn); n > 8<<10 {
			t.Errorf("%d octets were kept for it", n)
		}
	})
}

// One connection more than there may be costs the one its place that has waited
// for its request for the longest, half a request or none.
func TestMaxConnections(t *testing.T) {
	inTime(t, func(l *pipes, _ *Server) {
		var conns []net.Conn
		for range maxConnections {
			conn := l.dial()
			conns = append(conns, conn)
			io.WriteString(conn, "GET /livez HT")
			time.Sleep(time.Millisecond)
		}
		more := l.dial()
		if took := closedAfter(conns[0]); took != 0 {
			t.Errorf("the first was closed after %s", took)
		}
		io.WriteString(more, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if response, err := http.ReadResponse(bufio.NewReader(more), nil); err != nil || response.StatusCode != 200 {
			t.Errorf("%v %v", response, err)
		}
		if took := closedAfter(conns[1]); took == 0 {
			t.Error("the second lost its place, too")
		}
		for _, conn := range append(conns, more) {
			conn.Close()
		}
	})
}

// Who is being answered keeps its place; when all are, others are turned away.
func TestMaxConnectionsAtWork(t *testing.T) {
	inTime(t, func(l *pipes, s *Server) {
		done := make(chan struct{})
		s.Reload = func(context.Context) Reload { <-done; return Reload{Result: ok} }
		var conns []net.Conn
		for range maxConnections {
			conn := l.dial()
			conns = append(conns, conn)
			io.WriteString(conn, "POST /reload HTTP/1.1\r\nHost: localhost\r\nSmtpseal-Request: 1\r\nConnection: close\r\n\r\n")
		}
		synctest.Wait()
		if took := closedAfter(l.dial()); took != 0 {
			t.Errorf("one more was closed after %s", took)
		}
		close(done)
		for i, conn := range conns {
			if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 200 {
				t.Errorf("%d: %v %v", i, response, err)
			}
			conn.Close()
		}
	})
}

func TestLargeHeader(t *testing.T) {
	s := newSite(t, busy())
	for size, good := range map[int]bool{maxHeader / 2: true, maxHeader + 8<<10: false} {
		request, _ := http.NewRequest("GET", s.URL+"/livez", nil)
		request.Header.Set("X", strings.Repeat("x", size))
		response, err := http.DefaultTransport.RoundTrip(request)
		if err == nil {
			response.Body.Close()
		}
		// The rest of what was sent may reset the connection before 431 is read.
		if refused := err != nil || response.StatusCode == 431; refused == good {
			t.Errorf("%d octets: %v %v", size, response, err)
		}
	}
}

// Shutdown lets an answer that has begun go out, for as long as it is told.
func TestShutdown(t *testing.T) {
	inTime(t, func(l *pipes, s *Server) {
		asked, say := make(chan struct{}), make(chan struct{})
		s.Renew = func(context.Context, string) error { close(asked); <-say; return nil }
		conn := l.dial()
		go io.WriteString(conn, "POST /certificates/renew?name=x HTTP/1.1\r\nHost: localhost\r\n"+mark+"\r\n\r\n")
		<-asked
		go func() { time.Sleep(time.Second); close(say) }()
		over := make(chan error)
		go func() { over <- s.Shutdown(context.Background()) }()
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 200 {
			t.Errorf("%v %v", response, err)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownCutsOff(t *testing.T) {
	inTime(t, func(l *pipes, s *Server) {
		asked, say := make(chan struct{}), make(chan struct{})
		s.Renew = func(context.Context, string) error { close(asked); <-say; return nil }
		conn := l.dial()
		go io.WriteString(conn, "POST /certificates/renew?name=x HTTP/1.1\r\nHost: localhost\r\n"+mark+"\r\n\r\n")
		<-asked
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		if took := closedAfter(conn); took != 0 {
			t.Errorf("cut off %s too late", took)
		}
		close(say)
	})
}
