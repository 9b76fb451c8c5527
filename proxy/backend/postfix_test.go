//go:build linux

package backend_test

import (
	"context"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpseal/proxy/backend"
	"smtpseal/test/postfix"
)

// ordinary is all that Postfix logs when it has nothing to complain of.
var ordinary = regexp.MustCompile(`postfix/(` +
	`master\[\d+\]: daemon started .*` +
	`|(anvil|\w+/anvil)\[\d+\]: statistics: .*` +
	`|(smtpd|\w+/smtpd)\[\d+\]: connect from unknown\[(127\.0\.0\.1|::1)\]:\d+` +
	`|(smtpd|\w+/smtpd)\[\d+\]: disconnect from unknown\[(127\.0\.0\.1|::1)\]:\d+ ehlo=1 quit=1 commands=2` +
	`)$`)

// A few dials are made, then the watch is over.
type few struct {
	left int
	end  context.CancelFunc
}

func (f *few) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.left--; f.left < 0 {
		f.end()
		return nil, context.Canceled
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// What checks leave in the log of a real Postfix is who came and who went: no
// warning, no lost connection, no complaint of a header.
func TestPostfixLogsNoComplaintOfChecks(t *testing.T) {
	t.Parallel()
	srv := postfix.Start(t, postfix.Config{Services: []postfix.Service{
		{Name: "plain"}, {Name: "proxy", Proxy: true}, {Name: "proxy6", Proxy: true, Host: "::1"},
	}})
	const checks = 3
	expected := 0
	for _, c := range []struct {
		service string
		proxy   backend.Version
	}{
		{"plain", backend.Off}, {"proxy", backend.V1}, {"proxy", backend.V2}, {"proxy6", backend.V1}, {"proxy6", backend.V2},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		b := &backend.Backend{Name: "mta", Proxy: c.proxy, Helo: "mail.example.org", Dialer: &few{checks, cancel},
			Servers: []backend.Server{{Network: "tcp", Addr: srv.Addr(c.service)}},
			Health:  backend.Health{Interval: 50 * time.Millisecond, Timeout: 20 * time.Second}}
		b.Watch(ctx, nil)
		if state := b.State()[0]; !state.Known || !state.Up || state.Error != "" {
			t.Errorf("%s by %s: %+v", c.service, c.proxy, state)
		}
		expected += checks
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(20 * time.Second); strings.Count(srv.Log(), " disconnect from ") < expected; <-again.C {
		if time.Now().After(end) {
			t.Fatalf("not all of %d checks are in the log", expected)
		}
	}
	for line := range strings.Lines(srv.Log()) {
		if line = strings.TrimSuffix(line, "\n"); !ordinary.MatchString(line) {
			t.Error(line)
		}
	}
	if n := strings.Count(srv.Log(), " connect from "); n != expected {
		t.Errorf("%d connections for %d checks", n, expected)
	}
}

// A real Postfix whose setting does not fit is down, and the hint names it.
func TestPostfixOfAnotherSettingIsFoundOut(t *testing.T) {
	t.Parallel()
	srv := postfix.Start(t, postfix.Config{Services: []postfix.Service{{Name: "plain"}, {Name: "proxy", Proxy: true}}})
	for _, c := range []struct {
		service string
		proxy   backend.Version
		hint    string
	}{
		{"plain", backend.V1, "does not expect a PROXY v1 header"},
		{"plain", backend.V2, "does not expect a PROXY v2 header"},
		{"proxy", backend.Off, "set backends.mta.proxy_protocol: v2"}, // after 5 s
	} {
		b := &backend.Backend{Name: "mta", Proxy: c.proxy, Servers: []backend.Server{{Network: "tcp", Addr: srv.Addr(c.service)}}}
		state := first(t, b)
		if state.Up || !strings.Contains(state.Hint, c.hint) {
			t.Errorf("%s by %s: %+v", c.service, c.proxy, state)
		}
	}
}
