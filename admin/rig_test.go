package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A site is a Server that listens, whose Status a test can change, and which
// remembers the changes that it was asked for.
type site struct {
	*Server
	Addr net.Addr
	URL  string
	Logs *observer.ObservedLogs

	mu      sync.Mutex
	status  Status
	changes []string
}

// newSite serves on a free port, or on the listener given.
func newSite(t *testing.T, status Status, on ...net.Listener) *site {
	t.Helper()
	if len(on) == 0 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		on = append(on, listener)
	}
	core, logs := observer.New(zap.DebugLevel)
	s := &site{status: status, Addr: on[0].Addr(), URL: "http://" + on[0].Addr().String(), Logs: logs}
	s.Server = &Server{
		Status: s.now, Log: zap.New(core), Hosts: []string{"Mail-Admin.example.org"},
		Drain:  func() { s.changed("drain") },
		Reload: s.reloaded,
		Renew:  s.renewed,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(on[0]) }()
	t.Cleanup(func() {
		s.http.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *site) now() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *site) set(status Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *site) changed(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, what)
}

// made are the changes since the last time.
func (s *site) made() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.changes = nil }()
	return slices.Clone(s.changes)
}

func (s *site) reloaded(context.Context) Reload {
	s.changed("reload")
	if s.now().Reloads.Last.Result == failed {
		return s.now().Reloads.Last
	}
	return Reload{Time: noon, Result: ok}
}

func (s *site) renewed(_ context.Context, name string) error {
	s.changed("renew " + name)
	switch name {
	case "mail.example.org":
		return nil
	case "slow.example.org":
		return fmt.Errorf("order: 429 rateLimited")
	}
	return fmt.Errorf("%s: %w", name, ErrNoSuchName)
}

// ask sends a request. Headers are "Name: value"; Host is one of them.
func (s *site) ask(t *testing.T, method, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			request.Host = value
		}
		request.Header.Add(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// down is a process with something wrong everywhere.
func down() Status {
	s := busy()
	s.Ready, s.Reasons = false, []string{"backend mta: no server is up", "certificate for mail.example.org: it ends in 5 days and is not renewed"}
	for i := range s.Backends[0].Servers {
		server := &s.Backends[0].Servers[i]
		server.Up, server.Since = false, noon.Add(-3*60e9)
		server.Error = "dial " + server.Address + ": connect: connection refused"
		server.Hint = "Nobody listens there: is the mail server running, and does its port take PROXY headers?"
	}
	s.Backends[1].Warning = "without a PROXY header the server takes every client for this machine: see smtpseal recipe"
	c := &s.Certificates[0]
	c.NotAfter, c.NextTry = noon.AddDate(0, 0, 5), noon.Add(22*3600e9)
	c.LastError = "acme: order: 429 rateLimited: too many certificates already issued for example.org, retry after 2027-03-05"
	c.Problem = "it ends in 5 days and is not renewed"
	s.Certificates = append(s.Certificates, Certificate{Names: []string{"new.example.org"}, Source: "acme", LastError: "acme: order: no such host"},
		Certificate{Names: []string{"old.example.org"}, Source: "/etc/old.crt", NotAfter: noon.AddDate(0, 0, -3)},
		Certificate{Names: []string{"near.example.org"}, Source: "/etc/near.crt", NotAfter: noon.AddDate(0, 0, 10)})
	s.Reloads.Last = Reload{Time: noon.Add(-60e9), Result: failed, Error: "smtpseal.yaml:3: listen: no port"}
	s.Upgrade = Upgrade{Failed: 2, Last: UpgradeFailed{noon.Add(-120e9), "new process 4712: ended before it was ready: exit status 1"}}
	return s
}
