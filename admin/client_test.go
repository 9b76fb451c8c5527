package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClient(t *testing.T) {
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	everywhere, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(everywhere.Addr().String())
	loopback := newSite(t, busy())
	for name, c := range map[string]struct {
		site   *site
		client Client
	}{
		"tcp":        {loopback, Client{"tcp", loopback.Addr.String()}},
		"unix":       {newSite(t, busy(), unix), Client{"unix", unix.Addr().String()}},
		"everywhere": {newSite(t, busy(), everywhere), Client{"tcp", ":" + port}},
	} {
		t.Run(name, func(t *testing.T) { everything(t, c.site, &c.client) })
	}
}

func everything(t *testing.T, s *site, c *Client) {
	ctx := t.Context()
	status, err := c.Status(ctx)
	got, _ := json.Marshal(status)
	if want, _ := json.Marshal(busy().complete()); err != nil || string(got) != string(want) {
		t.Errorf("%v, %s", err, got)
	}
	if err := c.Drain(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Reload(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Renew(ctx, "mail.example.org"); err != nil {
		t.Error(err)
	}
	if err := c.Renew(ctx, "slow.example.org"); err == nil || err.Error() != "renew slow.example.org: order: 429 rateLimited" {
		t.Error(err)
	}
	if err := c.Renew(ctx, "a&name=b"); !errors.Is(err, ErrNoSuchName) || !strings.Contains(err.Error(), "smtpseal certs list") {
		t.Error(err)
	}
	if err := c.Renew(ctx, ""); err == nil || !strings.Contains(err.Error(), "say for which name") {
		t.Error(err)
	}
	if got := fmt.Sprint(s.made()); got != "[drain reload renew mail.example.org renew slow.example.org renew a&name=b]" {
		t.Error(got)
	}
	s.set(down())
	if err := c.Reload(ctx); err == nil || err.Error() != "smtpseal.yaml:3: listen: no port" {
		t.Error(err)
	}
}

// scene is somebody who listens where smtpseal should.
func scene(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return &Client{"tcp", listener.Addr().String()}
}

// TestClientTrouble: each error says what to do.
func TestClientTrouble(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	says := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server", serverName)
			w.WriteHeader(code)
			fmt.Fprint(w, text)
		}
	}
	for name, c := range map[string]struct {
		client *Client
		nobody bool
		want   []string
	}{
		"nobody":         {&Client{"tcp", gone.Addr().String()}, true, []string{gone.Addr().String(), "connection refused", "is smtpseal running", "admin.listen"}},
		"no socket":      {&Client{"unix", "/nowhere/admin.sock"}, true, []string{"/nowhere/admin.sock", "no such file", "is smtpseal running"}},
		"no port":        {&Client{"tcp", "127.0.0.1"}, true, []string{"missing port", "admin.listen"}},
		"somebody else":  {scene(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }), false, []string{"is not smtpseal", "admin.listen"}},
		"a web server":   {scene(t, http.NotFound), false, []string{"is not smtpseal"}},
		"refused":        {scene(t, says(403, "refused: do this\n")), false, []string{"refused: do this"}},
		"another one":    {scene(t, says(404, "404 page not found\n")), false, []string{"404 Not Found", "another version"}},
		"not JSON":       {scene(t, says(200, "<html>")), false, []string{"another version"}},
		"gone in answer": {scene(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), true, []string{"just ending"}},
	} {
		_, err := c.client.Status(t.Context())
		if err == nil || errors.Is(err, ErrNobody) != c.nobody {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: no %q in %q", name, part, err)
			}
		}
	}
}

// An SMTP server on the address speaks, and is not HTTP.
func TestClientMeetsSMTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			fmt.Fprint(conn, "220 mail.example.org ESMTP\r\n")
			defer conn.Close()
		}
	}()
	client := Client{"tcp", listener.Addr().String()}
	if err := client.Drain(t.Context()); err == nil || !strings.Contains(err.Error(), "is this smtpseal's admin listener?") {
		t.Error(err)
	}
}

func TestClientDoesNotWaitForever(t *testing.T) {
	hold := make(chan struct{})
	client := scene(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Status(ctx); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := client.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A port that takes connections and is silent keeps no probe waiting.
func TestStatusOfTheSilent(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	client := scene(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	began := time.Now()
	_, err := client.Status(t.Context())
	if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "no answer in time") || took < statusTimeout || took >= askTimeout {
		t.Errorf("after %s: %v", took, err)
	}
}
