package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A network is a Dialer of pipes. Of its servers "dead…" refuses, "hole" never
// answers, "deaf" is connected to but never reads, and all others work.
type network struct {
	mu     sync.Mutex
	dialed []string
	waited []time.Duration // what was left for each
	writes []string
	served []net.Conn
}

func (n *network) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	deadline, _ := ctx.Deadline()
	n.mu.Lock()
	n.dialed = append(n.dialed, addr)
	n.waited = append(n.waited, time.Until(deadline))
	n.mu.Unlock()
	switch {
	case strings.HasPrefix(addr, "dead"):
		return nil, fmt.Errorf("dial tcp %s: connection refused", addr)
	case addr == "hole":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	n.served = append(n.served, theirs)
	if addr != "deaf" {
		go func() {
			b := make([]byte, 64<<10)
			for {
				k, err := theirs.Read(b)
				if err != nil {
					return
				}
				n.mu.Lock()
				n.writes = append(n.writes, string(b[:k]))
				n.mu.Unlock()
			}
		}()
	}
	return ours, nil
}

func servers(addrs string) (all []Server) {
	for addr := range strings.FieldsSeq(addrs) {
		all = append(all, Server{Network: "tcp", Addr: addr})
	}
	return all
}

// Each server gets an even share of what is left, so that one that swallows
// packets, or takes a connection and never reads, does not keep the next from
// being tried; in all it is never longer than the deadline.
func TestDialShares(t *testing.T) {
	for _, c := range []struct {
		servers, reached string // "" for none
		spent            time.Duration
	}{
		{"good", "good", 0},
		{"dead good", "good", 0},
		{"hole good", "good", 5 * time.Second},
		{"hole hole good", "good", 6666666666},
		{"dead hole good", "good", 5 * time.Second},
		{"deaf good", "good", 5 * time.Second},
		{"good hole", "good", 0},
		{"dead dead", "", 0},
		{"hole", "", 10 * time.Second},
		{"hole dead hole", "", 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{}
			b := &Backend{Servers: servers(c.servers), Proxy: V2, Dialer: n}
			start := time.Now()
			born, err := b.Dial(start.Add(10*time.Second), facts("203.0.113.7:5000", "198.51.100.1:465"))
			if spent := time.Since(start).Round(time.Millisecond); spent != c.spent.Round(time.Millisecond) {
				t.Errorf("%s: took %v, want %v", c.servers, spent, c.spent)
			}
			if (err == nil) != (c.reached != "") || err == nil && born.Server.Addr != c.reached {
				t.Errorf("%s: reached %q, %v", c.servers, born.Server.Addr, err)
			}
			if err != nil && strings.Count(c.servers, "dead") != strings.Count(err.Error(), "refused") {
				t.Errorf("%s: %v does not tell of each", c.servers, err)
			}
			if born.Conn != nil {
				born.Conn.Close()
			}
			for _, conn := range n.served {
				conn.Close()
			}
			synctest.Wait()
		})
	}
}

// Postfix and Dovecot look for a header with a single peek: one write.
func TestDialWritesTheHeaderOnce(t *testing.T) {
	for _, v := range []Version{Off, V1, V2} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{}
			b := &Backend{Servers: servers("good"), Proxy: v, TLVs: all, Dialer: n}
			f := facts("203.0.113.7:5000", "198.51.100.1:465")
			f.TLS = tlsState("mail.example.org", "printer-7")
			born, err := b.Dial(time.Now().Add(time.Second), f)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			want, _, _ := b.Header(f)
			if got := strings.Join(n.writes, "|"); got != string(want) || v != Off && len(n.writes) != 1 {
				t.Errorf("%s: writes %q, want %q", v, n.writes, want)
			}
			born.Conn.Close()
			n.served[0].Close()
		})
	}
}

// Without a true address there must be no connection at all: a backend that
// hears nothing takes the client for us.
func TestDialWithoutAddress(t *testing.T) {
	n := &network{}
	if _, err := (&Backend{Servers: servers("good"), Proxy: V2, Dialer: n}).Dial(time.Now().Add(time.Second), Facts{}); err == nil || len(n.dialed) > 0 {
		t.Errorf("%v, dialled %v", err, n.dialed)
	}
	if _, err := (&Backend{Proxy: V2, Dialer: n}).Dial(time.Now().Add(time.Second), facts("203.0.113.7:5000", "")); err == nil {
		t.Error("a dial of no server succeeded")
	}
}

func TestDialUnixAndTCP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mta")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f := facts("203.0.113.7:5000", "198.51.100.1:465")
	for _, c := range []struct {
		l      net.Listener
		server Server
		name   string
	}{
		{unix, Server{"unix", path}, "unix:" + path},
		{tcp, Server{"tcp", tcp.Addr().String()}, tcp.Addr().String()},
	} {
		b := &Backend{Servers: []Server{{"unix", path + "-gone"}, c.server}, Proxy: V1}
		born, err := b.Dial(time.Now().Add(5*time.Second), f)
		if err != nil || born.Server.String() != c.name {
			t.Fatal(born.Server, err)
		}
		conn, err := c.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		born.Conn.Close()
		want, _, _ := b.Header(f)
		if got, err := io.ReadAll(conn); err != nil || string(got) != string(want) {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
		conn.Close()
	}
}

func TestMismatch(t *testing.T) {
	for _, s := range []Symptom{Closed, Silent, Talkative, Waited} {
		for v, words := range map[Version][]string{
			Off: {"expects a PROXY header", "backends.mta.proxy_protocol: v2"},
			V1:  {"does not expect a PROXY v1 header", "backends.mta.proxy_protocol", "Postfix"},
			V2:  {"does not expect a PROXY v2 header", "backends.mta.proxy_protocol", "smtpd_upstream_proxy_protocol"},
		} {
			got := (&Backend{Name: "mta", Proxy: v}).Mismatch(s)
			for _, word := range append(words, string(s)) {
				if strings.Count(got, word) != 1 {
					t.Errorf("%s, %s: %q has %q %d times", v, s, got, word, strings.Count(got, word))
				}
			}
		}
	}
}

// A name server that does not answer must not hold a session beyond its
// deadline: a look-up has none of its own but the context's.
func TestDialOfANameKeepsItsDeadline(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	direct.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-hang
		return nil, errors.New("no name server")
	}}
	defer func() { direct.Resolver = nil }()
	b := &Backend{Servers: []Server{{"tcp", "mta.example.org:25"}}}
	done := make(chan error, 1)
	go func() {
		_, err := b.Dial(time.Now().Add(50*time.Millisecond), facts("203.0.113.7:5000", ""))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a dial of a name without an address succeeded")
		}
	case <-time.After(5 * time.Second):
		t.Error("the dial goes on though its deadline is past")
	}
}
