package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// A script and a web server are told what happens: a failure, the first
// certificate, the next one. The script's environment has that and no secret of
// ours; the token in the URL is in no log line.
func TestWhoIsToldOfCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, out := filepath.Join(dir, "hook"), filepath.Join(dir, "out")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nenv >> \"$1\"\ncat > /dev/null\necho -- >> \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var web posts
	server := httptest.NewServer(&web)
	t.Cleanup(server.Close) // not before the parallel parts have ended
	for name, c := range map[string]struct {
		hook   string
		events func(t *testing.T) []map[string]string
	}{
		"command": {fmt.Sprintf("[%q, %q]", script, out), func(t *testing.T) []map[string]string { return environments(t, out) }},
		"url":     {fmt.Sprintf("%q", server.URL+"/hook?token=hunter2"), func(*testing.T) []map[string]string { return web.all() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{EAB: map[string]string{"kid-1": hmacKey}})
			past := time.Now().Add(-time.Hour)
			ca.SetARI("", pebble.ARI{Start: past, End: past.Add(time.Minute)})
			ca.Answer5xx()
			p := site{CA: ca, ACME: "eab: {key_id: kid-1, hmac_key: 'env:EAB_KEY'}, on_event: " + c.hook,
				Env: []string{"EAB_KEY=" + hmacKey}, Secrets: []string{hmacKey}}.run(t)
			for n, kind := range []string{"failed", "obtained", "renewed"} {
				until(t, kind, 20*time.Second, func() bool { return len(c.events(t)) > n })
				got := c.events(t)[n]
				if got["event"] != kind || got["name"] != hostname || got["key_type"] != "p256" {
					t.Errorf("event %d: %v, want %s", n, got, kind)
				}
				if kind == "failed" {
					if got["serial"] != "" || got["not_after"] != "" || !strings.Contains(got["error"], "503") {
						t.Errorf("failed: %v", got)
					}
				} else {
					issued := ca.Certificates(hostname)[n-1]
					if got["serial"] != serial(issued) || got["not_after"] != issued.NotAfter.UTC().Format(time.RFC3339) ||
						!strings.HasPrefix(got["issuer"], "Pebble") || got["error"] != "" {
						t.Errorf("%s: %v, want serial %s", kind, got, serial(issued))
					}
					// It is served before it is told.
					leaf, err := p.leaf(submissions, hostname)
					if err != nil || serial(leaf) != got["serial"] {
						t.Errorf("served %v, %v", leaf, err)
					}
				}
				ca.Heal()
				p.hup()
			}
		})
	}
}

// environments reads what the script was given, and demands that there is
// nothing else in it.
func environments(t *testing.T, path string) (all []map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	runs := strings.Split(string(text), "--\n")
	for _, run := range runs[:len(runs)-1] { // the last one is not whole yet
		event := map[string]string{}
		for line := range strings.Lines(run) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			key, ours := strings.CutPrefix(name, "SMTPSEAL_")
			if !ours && !slices.Contains([]string{"PATH", "PWD", "OLDPWD", "SHLVL", "_"}, name) { // the shell's own
				t.Errorf("the script inherits %s", name)
			}
			event[strings.ToLower(key)] = value
		}
		all = append(all, event)
	}
	return all
}

// posts is a web server that gathers events.
type posts struct {
	mu     sync.Mutex
	events []map[string]string
}

func (p *posts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	var event map[string]string
	if r.Method != http.MethodPost || r.URL.Query().Get("token") != "hunter2" || json.Unmarshal(body, &event) != nil {
		event = map[string]string{"event": fmt.Sprintf("%s %s %q", r.Method, r.URL, body)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, event)
}

func (p *posts) all() []map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}
