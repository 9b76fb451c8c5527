package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"smtpseal/admin"
	"smtpseal/config"
)

// However many ask while it is done, it is done once more for all of them, and
// never by two at a time.
func TestATaskIsDoneOnceForAllWhoAskMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var one task
		var done, at atomic.Int32
		do := func() {
			if at.Add(1) != 1 {
				t.Error("two at a time")
			}
			time.Sleep(time.Second)
			at.Add(-1)
			done.Add(1)
		}
		for _, want := range []int32{1, 3, 5} { // alone; and with a thousand behind it
			one.start(do)
			synctest.Wait()
			for range 1000 * (want / 2) {
				one.start(do)
			}
			time.Sleep(time.Minute)
			if got := done.Load(); got != want {
				t.Errorf("done %d times, want %d", got, want)
			}
		}
	})
}

// Who asks just as it ends is not forgotten: it begins once more behind each ask.
func TestNobodyWhoAsksForATaskIsForgotten(t *testing.T) {
	var one task
	var asked, seen atomic.Int64
	do := func() { seen.Store(asked.Load()) }
	for range 5000 {
		n := asked.Add(1)
		one.start(do)
		for end := time.Now().Add(20 * time.Second); seen.Load() < n; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("ask %d was forgotten", n)
			}
		}
	}
}

// A keeping goes on as long as nothing that it was made of has changed: neither
// the keys of the file nor what they point to.
func TestWhatAKeepingIsMadeOf(t *testing.T) {
	dir := t.TempDir()
	secret, roots := filepath.Join(dir, "key"), filepath.Join(dir, "roots.pem")
	put := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(secret, strings.Repeat("a", 64))
	put(roots, "some")
	text := `
listeners: [{listen: ":465", tls: implicit, backend: mta}]
backends: {mta: {preset: postfix, servers: ["127.0.0.1:25"]}}
certificates: [{names: [mail.example.org]}]
storage: {path: "` + dir + `", encryption_key: "file:` + secret + `"}
acme: {email: a@example.org, trusted_roots: "` + roots + `"}
`
	read := func(old, new string) made {
		t.Helper()
		m, err := madeOf(parse(t, strings.Replace(text, old, new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first := read("", "")
	for _, c := range []struct{ name, old, new string }{
		{"nothing", "", ""}, {"a name", "[mail.example.org]", "[mail.example.org, mx.example.org]"},
		{"a backend", "127.0.0.1:25", "127.0.0.1:26"}, {"a listener", "implicit", "starttls"},
	} {
		if !read(c.old, c.new).equal(first) {
			t.Errorf("%s makes another one", c.name)
		}
	}
	for _, c := range []struct{ name, old, new string }{
		{"the address", "a@example.org", "b@example.org"}, {"the path", dir + `",`, dir + `/other",`},
		{"no ACME at all", "{names: [mail.example.org]}", "{names: [mail.example.org], internal: true}"},
	} {
		if read(c.old, c.new).equal(first) {
			t.Errorf("%s makes no other one", c.name)
		}
	}
	put(secret, strings.Repeat("b", 64))
	if read("", "").equal(first) {
		t.Error("another key in its file is not noticed")
	}
	put(secret, strings.Repeat("a", 64))
	if !read("", "").equal(first) {
		t.Error("the same key again makes another one")
	}
	put(roots, "others")
	if read("", "").equal(first) {
		t.Error("other roots in their file are not noticed")
	}
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if _, err := madeOf(parse(t, text)); err == nil || !strings.Contains(err.Error(), secret) {
		t.Errorf("without the secret's file: %v", err)
	}
}

// A reload that came through the admin listener may move it, or end it, and is
// answered all the same.
func TestAReloadMayMoveTheAdminListenerItCameBy(t *testing.T) {
	s, file := serving(t, config.Load)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	listenOn := func(addrs ...string) {
		t.Helper()
		list := "off"
		if len(addrs) > 0 {
			list = `["` + strings.Join(addrs, `", "`) + `"]`
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), "admin: {listen: off}", "admin: {listen: "+list+"}", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two, mail := free(t), free(t), s.now.Load().sockets.addresses()[0]
	client := func(addr string) *admin.Client { return &admin.Client{Network: "tcp", Addr: addr} }
	listenOn(one)
	if err := s.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by      string
		addrs   []string
		answers []string
		silent  []string
	}{
		{one, []string{one, two}, []string{one, two}, nil},
		{two, []string{two}, []string{two}, []string{one}},
		{two, []string{one}, []string{one}, []string{two}},
		{one, nil, nil, []string{one, two}},
	} {
		listenOn(c.addrs...)
		if err := client(c.by).Reload(t.Context()); err != nil {
			t.Errorf("to %q: %v", c.addrs, err)
		}
		for _, addr := range c.answers {
			if status, err := client(addr).Status(t.Context()); err != nil || status.Listeners[0].Addresses[0] != mail {
				t.Errorf("on %q, %s: %v", c.addrs, addr, err)
			}
		}
		for _, addr := range c.silent {
			// The old one ends beside the answer.
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if _, err := client(addr).Status(t.Context()); err != nil {
					break
				} else if time.Now().After(end) {
					t.Fatalf("on %q, %s still answers", c.addrs, addr)
				}
			}
		}
	}
	if got := s.reloads.status(); got.OK != 5 || got.Failed != 0 {
		t.Errorf("counted %+v", got)
	}
}

// A configuration that cannot be had leaves all parts of the one before as they
// are: the same values, not equal ones.
func TestARefusedReloadLeavesEveryPartInPlace(t *testing.T) {
	s, file := serving(t, config.Load)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before := s.now.Load()
	for name, wrong := range map[string][2]string{
		"no file":      {"certificates:\n", "certificates:\n  - {cert_file: /nowhere/x.crt, key_file: /nowhere/x.key}\n"},
		"no storage":   {"storage: {path: ", "storage: {path: /dev/null/"},
		"no address":   {"admin: {listen: off}", "admin: {listen: \"192.0.2.1:1\"}"},
		"no client CA": {"backend: mta}", "backend: mta, client_auth: require, client_ca_file: /nowhere/ca.pem}"},
		"no YAML":      {"listeners:", "listeners"},
	} {
		bad := strings.Replace(string(text), wrong[0], wrong[1], 1)
		if name == "no storage" {
			bad = strings.Replace(bad, "/dev/null/\"", "\"/dev/null/", 1)
		}
		if bad == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.reload(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if s.now.Load() != before {
			t.Errorf("%s: another setup runs", name)
		}
		for _, l := range before.sockets.nets(forMail) {
			if !isOpen(l) {
				t.Errorf("%s: %s was closed", name, l.Addr())
			}
		}
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(t.Context()); err != nil { // nobody holds on to anything
		t.Error(err)
	}
	if now := s.now.Load(); now.keeping != before.keeping || now.sockets.nets(forMail)[0] != before.sockets.nets(forMail)[0] {
		t.Error("the same file again has made something anew")
	}
	if got := s.reloads.status(); got.OK != 1 || got.Failed != 5 {
		t.Errorf("counted %+v", got)
	}
}

// Loggers that parts of the program have made long ago follow a change of level
// and form.
func TestALiveLogChangesForThoseWhoHaveIt(t *testing.T) {
	var out bytes.Buffer
	log, change, err := newLiveLog(&out, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	part := log.With(zap.String("part", "one"))
	part.Debug("not yet")
	change(config.Log{Level: "debug", Format: "json"})
	part.Debug("now")
	change(config.Log{Level: "warn", Format: "console"})
	part.Info("no longer")
	part.Warn("in words")
	change(config.Log{Level: "info", Format: "json"})
	part.Info("and back")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || strings.HasPrefix(lines[1], "{") || !strings.Contains(lines[1], "in words") || !strings.Contains(lines[1], `"part": "one"`) {
		t.Fatalf("wrote %q", lines)
	}
	for i, message := range map[int]string{0: "now", 2: "and back"} {
		var line map[string]string
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || line["message"] != message || line["part"] != "one" {
			t.Errorf("line %q: %v", lines[i], err)
		}
	}
	if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "not yet") || strings.Contains(l, "no longer") }) {
		t.Errorf("wrote %q", lines)
	}
}

// A backend that no listener used was not asked, however long it has been in the
// file.
func TestABackendIsKnownOnlyIfItWasUsed(t *testing.T) {
	two := func(used string) *setup {
		return &setup{config: parse(t, "listeners: [{listen: ':2525', tls: implicit, backend: "+used+"}]\nbackends:\n"+
			"  a: {servers: ['127.0.0.1:25'], proxy_protocol: v2, relay_check: refuse}\n"+
			"  b: {servers: ['127.0.0.1:26'], proxy_protocol: v2, relay_check: refuse}\n"+internalIn("/s")+"\n")}
	}
	before, next := two("a"), two("b")
	a, b := next.config.Backends[0], next.config.Backends[1]
	if !next.relayKnown(a, before) || next.relayKnown(b, before) {
		t.Errorf("known: a %v, b %v; want only a, which was used", next.relayKnown(a, before), next.relayKnown(b, before))
	}
}
