//go:build linux

package backend_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"smtpseal/proxy/backend"
	"smtpseal/test/mta"
)

// first returns what the first check of a server finds.
func first(t *testing.T, b *backend.Backend) backend.ServerState {
	t.Helper()
	b.Health.Interval = time.Minute
	if b.Health.Timeout == 0 {
		b.Health.Timeout = 10 * time.Second
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var found backend.ServerState
	b.Watch(ctx, func(s backend.ServerState) {
		found = s
		cancel()
	})
	return found
}

// Servers of each kind, set up rightly and wrongly: what is right is up and
// sees nothing to complain of; what is wrong is down, and the hint names the
// setting.
func TestHealthOfServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		config mta.Config
		proxy  backend.Version
		err    string // part of it; "" is up
		hint   string
	}{
		{"plain", mta.Config{}, backend.Off, "", ""},
		{"unix", mta.Config{Network: "unix"}, backend.Off, "", ""},
		{"peeks once, v1", mta.Config{Proxy: mta.V1, PeekOnce: true}, backend.V1, "", ""},
		{"peeks once, v2", mta.Config{Proxy: mta.Either, PeekOnce: true}, backend.V2, "", ""},
		{"loses what follows", mta.Config{Proxy: mta.V2, SwallowBehind: true}, backend.V2, "", ""},
		{"unix, v1", mta.Config{Network: "unix", Proxy: mta.V1}, backend.V1, "", ""},
		{"unix, v2", mta.Config{Network: "unix", Proxy: mta.V2}, backend.V2, "", ""},
		{"greets late", mta.Config{Proxy: mta.V2, GreetDelay: 200 * time.Millisecond}, backend.V2, "", ""},

		{"wants one, gets none", mta.Config{Proxy: mta.V2}, backend.Off, "greeting: no answer within 2s", "set backends.mta.proxy_protocol: v2"},
		{"wants none, gets v1", mta.Config{}, backend.V1, "", "does not expect a PROXY v1 header"},
		{"wants none, gets v2", mta.Config{}, backend.V2, "", "does not expect a PROXY v2 header"},
		{"wants v1, gets v2, closes", mta.Config{Proxy: mta.V1}, backend.V2, "greeting: ", "backends.mta.proxy_protocol"},
		{"wants v2, gets v1, 421", mta.Config{Proxy: mta.V2, BadHeader: mta.Say421}, backend.V1, "greeting: 421 4.3.0", "log"},
		{"wants v2, gets v1, greets all the same", mta.Config{Proxy: mta.V2, BadHeader: mta.Only503}, backend.V1, "EHLO: 503", "PROXY v1"},
		{"goes at EHLO", mta.Config{Faults: []mta.Fault{{At: "EHLO", Then: mta.Reset}}}, backend.Off, "EHLO: ", "log"},
		{"goes at QUIT", mta.Config{Faults: []mta.Fault{{At: "QUIT", Then: mta.Close}}}, backend.Off, "QUIT: the connection was closed", "log"},
		{"octet by octet", mta.Config{Faults: []mta.Fault{{At: mta.Greeting, EachOctet: time.Millisecond}}}, backend.Off, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := mta.Start(t, c.config)
			network := "tcp"
			if c.config.Network != "" {
				network = c.config.Network
			}
			b := &backend.Backend{Name: "mta", Proxy: c.proxy, Helo: "mail.example.org",
				Servers: []backend.Server{{Network: network, Addr: srv.Addr()}}, Health: backend.Health{Timeout: 2 * time.Second}}
			state := first(t, b)
			if state.Up != (c.hint == "") || !strings.HasPrefix(state.Error, c.err) || !strings.Contains(state.Hint, c.hint) {
				t.Errorf("%+v", state)
			}
			record := srv.WaitConnection(t, 1, func(c *mta.Connection) bool { return c.End != mta.Open })
			if state.Up && (record.End != mta.Quit || record.Error != nil || record.Early > 0 || record.Helo != "mail.example.org" || len(record.Commands) != 2) {
				t.Errorf("the server saw %+v", record)
			}
			if h := record.Header; state.Up && h != nil && (!h.OneRead || h.Segments > 1 || c.proxy == backend.V2 && !h.Command.IsLocal()) {
				t.Errorf("header %q, in one read: %v, segments %d", h.Raw, h.OneRead, h.Segments)
			}
		})
	}
}
