package certs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func anEvent() Event {
	return Event{Kind: EventRenewed, Name: "mail.example.org", KeyType: "p256", Issuer: "Test CA", Serial: "1f",
		NotAfter: time.Date(2027, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))}
}

// script writes an executable shell script.
func script(t *testing.T, body string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700))
	return []string{path}
}

// startHook runs a hook; stop ends it and returns how long that took.
func startHook(t *testing.T, h Hook) (*hook, func() time.Duration, *observer.ObservedLogs) {
	t.Helper()
	before := runtime.NumGoroutine()
	core, logs := observer.New(zapcore.DebugLevel)
	k := newHook(h, zap.New(core))
	k.pauses = []time.Duration{time.Millisecond, time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.run(ctx); close(done) }()
	stop := sync.OnceValue(func() time.Duration {
		start := time.Now()
		cancel()
		<-done
		return time.Since(start)
	})
	t.Cleanup(func() {
		stop()
		goroutinesBack(t, before)
	})
	return k, stop, logs
}

func goroutinesBack(t *testing.T, before int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, before %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func TestHookOfNobodyIsSilent(t *testing.T) {
	h := newHook(Hook{}, nil)
	h.tell(anEvent())
	h.run(t.Context())
}

// The environment is what the documentation says and nothing else: ours may
// hold what the configuration means by env:NAME.
func TestHookCommandInheritsNothing(t *testing.T) {
	t.Setenv("CLOUDFLARE_TOKEN", "secret")
	dir := t.TempDir()
	command := append(script(t, `tr '\0' '\n' </proc/$$/environ | sort >"$1/env"; cat >"$1/stdin"`), dir)
	h, stop, logs := startHook(t, Hook{Command: command})
	e := anEvent()
	e.Error = "a $(touch " + dir + "/shell)\x00;`touch " + dir + "/shell` \"'"
	h.tell(e)
	stop()
	env, err := os.ReadFile(dir + "/env")
	must(t, err)
	want := []string{"PATH=" + os.Getenv("PATH"), "SMTPSEAL_ERROR=" + strings.ReplaceAll(e.Error, "\x00", ""),
		"SMTPSEAL_EVENT=renewed", "SMTPSEAL_ISSUER=Test CA", "SMTPSEAL_KEY_TYPE=p256", "SMTPSEAL_NAME=mail.example.org",
		"SMTPSEAL_NOT_AFTER=2027-02-03T03:05:06Z", "SMTPSEAL_SERIAL=1f"}
	if got := strings.Split(strings.TrimSpace(string(env)), "\n"); !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	stdin, err := os.ReadFile(dir + "/stdin")
	must(t, err)
	fields := map[string]string{}
	must(t, json.Unmarshal(stdin, &fields))
	for _, v := range want[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(v, "SMTPSEAL_"), "=")
		if fields[strings.ToLower(name)] != value {
			t.Errorf("standard input %s, want %s", stdin, v)
		}
	}
	if _, err := os.Stat(dir + "/shell"); err == nil {
		t.Error("a shell read the event")
	}
	if warned := logs.FilterLevelExact(zapcore.WarnLevel).All(); len(warned) > 0 {
		t.Errorf("warned %v", warned)
	}
}

func TestHookEventsComeInOrderAndOneAtATime(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	h, stop, _ := startHook(t, Hook{Command: append(script(t, `echo "$SMTPSEAL_SERIAL" >>"$1"; sleep 0.02; echo end >>"$1"`), out)})
	var want []string
	for i := range 10 {
		e := anEvent()
		e.Serial = strconv.Itoa(i)
		h.tell(e)
		want = append(want, e.Serial, "end")
	}
	stop()
	got, err := os.ReadFile(out)
	must(t, err)
	if !slices.Equal(strings.Fields(string(got)), want) {
		t.Errorf("got %q", got)
	}
}

func TestHookCommandFailsAndSaysItsLastLine(t *testing.T) {
	h, stop, logs := startHook(t, Hook{Command: append(script(t,
		"yes flood | head -c 1000000; echo; echo 'disk full' >&2; exit 3"), "--token=secret")})
	h.tell(anEvent())
	stop()
	failed := logs.FilterMessage("hook failed").All()
	if len(failed) != 1 || failed[0].ContextMap()["output"] != "disk full" || failed[0].ContextMap()["error"] != "exit status 3" {
		t.Errorf("%v", failed)
	}
	if text := fmt.Sprint(logs.All()); strings.Contains(text, "secret") {
		t.Error("arguments in the log: " + text)
	}
}

func TestHookCommandThatIsMissing(t *testing.T) {
	h, stop, logs := startHook(t, Hook{Command: []string{"/nonexistent/hook"}})
	h.tell(anEvent())
	stop()
	if logs.FilterMessage("hook failed").Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

// The child of a script is what hangs mostly: it dies with the script.
func TestHookCommandIsKilledWithItsGroup(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	h, stop, logs := startHook(t, Hook{Command: append(script(t, `sleep 100 & echo $! >"$1.new"; mv "$1.new" "$1"; wait`), pid)})
	h.commandTime = 500 * time.Millisecond
	h.tell(anEvent())
	eventually(t, func() bool { return logs.FilterMessage("hook failed").Len() == 1 })
	text, err := os.ReadFile(pid)
	must(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	eventually(t, func() bool { return gone(child) })
	if said := logs.FilterMessage("hook failed").All()[0].ContextMap()["error"].(string); !strings.HasPrefix(said, "killed after 500ms") {
		t.Errorf("said %q", said)
	}
	stop()
}

// gone reports whether a process has ended; one that nobody has waited for yet
// has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil && syscall.Kill(pid, 0) != nil || strings.Contains(string(stat), ") Z ")
}

// A daemon that a script leaves behind holds our pipe. That is no failure.
func TestHookCommandMayLeaveAChild(t *testing.T) {
	h, stop, logs := startHook(t, Hook{Command: script(t, "sleep 3 & exit 0")})
	h.tell(anEvent())
	if took := stop(); took > 2500*time.Millisecond {
		t.Errorf("waited %v for the child", took)
	}
	if logs.FilterMessage("hook failed").Len() > 0 {
		t.Errorf("%v", logs.All())
	}
}

// What waits at a shutdown is delivered, what hangs holds it up for the last
// words' time only.
func TestHookAtShutdown(t *testing.T) {
	h, stop, logs := startHook(t, Hook{Command: script(t, "exec sleep 100")})
	h.lastWords = 300 * time.Millisecond
	h.tell(anEvent())
	h.tell(anEvent())
	if took := stop(); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if logs.FilterMessage("certificate events not delivered: shutting down").Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

// A hook that stands still holds up nobody, and the newest events survive.
func TestHookQueueIsBounded(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	h := newHook(Hook{Command: []string{"/nonexistent/hook"}}, zap.New(core))
	for i := range hookQueue + 36 {
		h.tell(Event{Kind: EventFailed, Name: strconv.Itoa(i), Error: strings.Repeat("x", 1<<20)})
	}
	if len(h.queue) != hookQueue || h.queue[0].Name != "36" || len(h.queue[0].Error) > hookError {
		t.Errorf("%d queued, first %s", len(h.queue), h.queue[0].Name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.run(ctx)
	dropped := logs.FilterMessageSnippet("events dropped").All()
	if len(dropped) != 1 || dropped[0].ContextMap()["events"] != int64(36) {
		t.Errorf("%v", dropped)
	}
	if logs.FilterMessage("hook failed").Len() != hookQueue {
		t.Errorf("%d delivered", logs.FilterMessage("hook failed").Len())
	}
}

// A poster answers what it is told to and keeps what it got.
type poster struct {
	mu     sync.Mutex
	codes  []int // one after the other, the last for ever
	bodies []string
	asked  []string
}

func (p *poster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bodies = append(p.bodies, string(body))
	p.asked = append(p.asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Content-Type"))
	code := p.codes[min(len(p.bodies), len(p.codes))-1]
	w.WriteHeader(code)
}

func TestHookPost(t *testing.T) {
	for _, c := range []struct {
		name  string
		codes []int
		tries int
		said  string
	}{
		{"good", []int{204}, 1, ""},
		{"5xx then good", []int{503, 200}, 2, ""},
		{"429 then good", []int{429, 429, 200}, 3, ""},
		{"5xx for ever", []int{500}, 3, "answered 500"},
		{"refused", []int{403}, 1, "answered 403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &poster{codes: c.codes}
			server := httptest.NewServer(p)
			defer server.Close()
			h, stop, logs := startHook(t, Hook{URL: server.URL + "/in/secret?token=secret"})
			h.tell(anEvent())
			stop()
			if len(p.bodies) != c.tries || p.asked[0] != "POST /in/secret application/json" {
				t.Errorf("asked %q", p.asked)
			}
			var got map[string]string
			must(t, json.Unmarshal([]byte(p.bodies[len(p.bodies)-1]), &got))
			if got["event"] != "renewed" || got["not_after"] != "2027-02-03T03:05:06Z" {
				t.Errorf("got %v", got)
			}
			if failed := logs.FilterMessage("hook failed").All(); (len(failed) > 0) != (c.said != "") ||
				c.said != "" && !strings.Contains(failed[0].ContextMap()["error"].(string), c.said) {
				t.Errorf("said %v", failed)
			}
			secretFree(t, h, logs)
		})
	}
}

// secretFree looks for the token of a URL wherever it could have gone.
func secretFree(t *testing.T, h *hook, logs *observer.ObservedLogs) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %s", h.Hook, h.Hook, h.Hook, h.Hook)
	for _, entry := range logs.All() {
		text += fmt.Sprint(entry.Message, entry.ContextMap())
	}
	if strings.Contains(text, "secret") {
		t.Error("the URL's token: " + text)
	}
}

func TestHookPostNobodyThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	for _, to := range []string{server.URL + "/secret", "http://secret:port secret/", "http://user:secret@[::1]:1/", "ftp://127.0.0.1/secret"} {
		h, stop, logs := startHook(t, Hook{URL: to})
		h.tell(anEvent())
		stop()
		if logs.FilterMessage("hook failed").Len() != 1 {
			t.Errorf("%v", logs.All())
		}
		secretFree(t, h, logs)
	}
}

// An event and its token go to no other host, and a POST stays one.
func TestHookRedirects(t *testing.T) {
	p := &poster{codes: []int{200}}
	other := httptest.NewServer(p)
	defer other.Close()
	mux := http.NewServeMux()
	mux.Handle("/new", p)
	mux.Handle("/other", http.RedirectHandler(other.URL+"/secret", http.StatusTemporaryRedirect))
	mux.Handle("/same", http.RedirectHandler("/new", http.StatusPermanentRedirect))
	mux.Handle("/get", http.RedirectHandler("/new", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusTemporaryRedirect))
	server := httptest.NewServer(mux)
	defer server.Close()
	for path, want := range map[string]int{"/other": 0, "/get": 0, "/loop": 0, "/same": 1} {
		p.bodies, p.asked = nil, nil
		h, stop, logs := startHook(t, Hook{URL: server.URL + path})
		h.tell(anEvent())
		stop()
		if len(p.bodies) != want || logs.FilterMessage("hook failed").Len() != 1-want {
			t.Errorf("%s: posted %q, said %v", path, p.asked, logs.All())
		}
		if want == 1 && !strings.Contains(p.bodies[0], "mail.example.org") {
			t.Errorf("%s: body %q", path, p.bodies[0])
		}
		secretFree(t, h, logs)
	}
}

// A server that accepts and is silent holds up a shutdown for the last words'
// time only.
func TestHookPostToASilentServer(t *testing.T) {
	asked, release := make(chan struct{}, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	h, stop, logs := startHook(t, Hook{URL: server.URL})
	h.lastWords = 200 * time.Millisecond
	h.tell(anEvent())
	<-asked
	if took := stop(); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if logs.FilterMessage("hook failed").Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}
