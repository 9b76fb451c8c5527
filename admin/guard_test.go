package admin

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

const mark = RequestHeader + ": 1"

// TestGuards is who may ask what. Where nothing is said, Host is the address.
func TestGuards(t *testing.T) {
	s := newSite(t, busy())
	for name, c := range map[string]struct {
		method, path string
		headers      []string
		code         int
		says         string
	}{
		// Absent headers.
		"a command":             {"POST", "/drain", []string{mark}, 202, ""},
		"a reload":              {"POST", "/reload", []string{mark}, 200, ""},
		"a renewal":             {"POST", "/certificates/renew?name=mail.example.org", []string{mark}, 200, ""},
		"no header":             {"POST", "/drain", nil, 403, "curl -X POST -H 'Smtpseal-Request: 1'"},
		"no header on reload":   {"POST", "/reload", nil, 403, "Smtpseal-Request: 1"},
		"no header on renew":    {"POST", "/certificates/renew?name=mail.example.org", nil, 403, "Smtpseal-Request: 1"},
		"another value":         {"POST", "/drain", []string{RequestHeader + ": 0"}, 403, "Smtpseal-Request: 1"},
		"a form's content type": {"POST", "/drain", []string{"Content-Type: application/x-www-form-urlencoded"}, 403, "Smtpseal-Request: 1"},

		// CSRF.
		"from another site":        {"POST", "/drain", []string{mark, "Sec-Fetch-Site: cross-site", "Origin: http://evil.example"}, 403, "own"},
		"from another port":        {"POST", "/drain", []string{mark, "Sec-Fetch-Site: same-site"}, 403, "own"},
		"an old browser":           {"POST", "/drain", []string{mark, "Origin: http://evil.example"}, 403, "without an Origin header"},
		"a sandboxed frame":        {"POST", "/drain", []string{mark, "Origin: null"}, 403, "Origin"},
		"the page itself":          {"POST", "/drain", []string{mark, "Sec-Fetch-Site: same-origin", "Origin: " + s.URL}, 202, ""},
		"behind a TLS proxy":       {"POST", "/drain", []string{mark, "Host: mail-admin.example.org", "Origin: https://mail-admin.example.org"}, 202, ""},
		"a preflight":              {"OPTIONS", "/drain", []string{"Origin: http://evil.example", "Access-Control-Request-Headers: smtpseal-request"}, 405, ""},
		"pprof as an image":        {"GET", "/debug/pprof/", []string{"Sec-Fetch-Site: cross-site"}, 403, "another web page"},
		"pprof while not enabled":  {"GET", "/debug/pprof/", nil, 404, ""},
		"a link on a foreign page": {"GET", "/", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}, 200, ""},

		// DNS rebinding.
		"a rebound drain":          {"POST", "/drain", []string{mark, "Host: evil.example", "Sec-Fetch-Site: same-origin"}, 403, "admin.hosts"},
		"a rebound page":           {"GET", "/", []string{"Host: evil.example"}, 403, "admin.hosts"},
		"a rebound status":         {"GET", "/status", []string{"Host: evil.example"}, 403, `"evil.example"`},
		"a rebound pprof":          {"GET", "/debug/pprof/", []string{"Host: evil.example"}, 403, "admin.hosts"},
		"localhost":                {"GET", "/status", []string{"Host: localhost"}, 200, ""},
		"localhost, forwarded":     {"GET", "/status", []string{"Host: LOCALHOST.:8080"}, 200, ""},
		"not localhost":            {"GET", "/status", []string{"Host: localhost.evil.example"}, 403, ""},
		"nor this":                 {"GET", "/status", []string{"Host: evil.localhost"}, 403, ""},
		"another address":          {"GET", "/status", []string{"Host: 192.0.2.7:80"}, 200, ""},
		"IPv6":                     {"GET", "/status", []string{"Host: [::1]:9465"}, 200, ""},
		"IPv6 without port":        {"GET", "/status", []string{"Host: [2001:db8::1]"}, 200, ""},
		"not quite an address":     {"GET", "/status", []string{"Host: 127.0.0.1.evil.example"}, 403, ""},
		"an address as one number": {"GET", "/status", []string{"Host: 2130706433"}, 403, ""},
		"one of Hosts":             {"GET", "/status", []string{"Host: mail-admin.example.org:9465"}, 200, ""},
		"a child of Hosts":         {"GET", "/status", []string{"Host: evil.mail-admin.example.org"}, 403, ""},

		// Probes and scrapers.
		"livez":   {"GET", "/livez", []string{"Host: svc.cluster.local"}, 200, "ok"},
		"readyz":  {"GET", "/readyz", []string{"Host: svc.cluster.local"}, 200, "ok"},
		"metrics": {"GET", "/metrics", []string{"Host: svc.cluster.local"}, 200, "smtpseal_build_info"},

		// Methods and paths.
		"GET drain":     {"GET", "/drain", []string{mark}, 405, ""},
		"GET reload":    {"GET", "/reload", []string{mark}, 405, ""},
		"HEAD renew":    {"HEAD", "/certificates/renew?name=mail.example.org", []string{mark}, 405, ""},
		"POST status":   {"POST", "/status", []string{mark}, 405, ""},
		"HEAD livez":    {"HEAD", "/livez", nil, 200, ""},
		"unknown":       {"GET", "/nothing", nil, 404, ""},
		"below drain":   {"POST", "/drain/", []string{mark}, 404, ""},
		"another slash": {"POST", "//drain", []string{mark}, 307, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.made()
			response, body := s.ask(t, c.method, c.path, c.headers...)
			if response.StatusCode != c.code || !strings.Contains(body, c.says) {
				t.Errorf("%d %s", response.StatusCode, body)
			}
			done := c.method == "POST" && response.StatusCode < 300
			if changes := s.made(); (len(changes) == 1) != done || len(changes) > 1 {
				t.Errorf("changed: %q", changes)
			}
			if c.code == 405 && response.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if response.Header.Get("Access-Control-Allow-Origin") != "" || response.Header.Get("Access-Control-Allow-Headers") != "" {
				t.Error("foreign pages are let in")
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
				"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Server": "smtpseal",
			} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
			if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") ||
				!strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("Content-Security-Policy is %q", policy)
			}
		})
	}
}

// No browser opens a unix socket, and Host is what the client made up.
func TestGuardsOverUnix(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, busy(), listener)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", s.Addr.String())
	}}}
	request, _ := http.NewRequest("POST", "http://whatever/drain", nil)
	for _, header := range []string{"", "1"} {
		request.Header.Set(RequestHeader, header)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if changes := len(s.made()); changes != len(header) {
			t.Errorf("header %q: %d, %d changes", header, response.StatusCode, changes)
		}
	}
}

// A reload replaces the names, and pprof, without a new listener.
func TestAllow(t *testing.T) {
	s := newSite(t, busy())
	for _, c := range []struct {
		host, path string
		code       int
	}{{"new.example.org", "/status", 200}, {"mail-admin.example.org", "/status", 403}, {"localhost", "/debug/pprof/cmdline", 200}} {
		s.Allow([]string{"new.example.org"}, true)
		if response, body := s.ask(t, "GET", c.path, "Host: "+c.host); response.StatusCode != c.code {
			t.Errorf("%s%s: %d %s", c.host, c.path, response.StatusCode, body)
		}
	}
	s.Allow(nil, false)
	if response, _ := s.ask(t, "GET", "/debug/pprof/cmdline"); response.StatusCode != 404 {
		t.Errorf("pprof is still there: %d", response.StatusCode)
	}
}

// A page in somebody's browser may try for hours: the log hears a little.
func TestRefusalsAreFewLines(t *testing.T) {
	s := newSite(t, busy())
	for range 50 {
		s.ask(t, "POST", "/drain", "Origin: http://evil.example")
	}
	if n := s.Logs.FilterMessage("admin request refused").Len(); n != refusalsPerMinute {
		t.Errorf("%d lines", n)
	}
	if line := s.Logs.All()[0]; line.ContextMap()["origin"] != "http://evil.example" || line.Level != zap.WarnLevel {
		t.Errorf("%+v", line)
	}
}

// What a client sends as Host is not what a terminal should get.
func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"": "empty", "evil.example": `"evil.example"`, "\x1b[2J\r\nx": `"?[2J??x"`, strings.Repeat("a", 300): `"` + strings.Repeat("a", 100) + `"`,
	} {
		if got := quote(text); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}
