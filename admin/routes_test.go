package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestReadyz(t *testing.T) {
	s := newSite(t, busy())
	for _, c := range []struct {
		status Status
		path   string
		code   int
		says   string
	}{
		{busy(), "/readyz", 200, "ok\n"},
		{down(), "/readyz", 503, "backend mta: no server is up\ncertificate for mail.example.org: it ends in 5 days and is not renewed\n"},
		{Status{State: Draining}, "/readyz", 503, "draining\n"},
		{busy(), "/readyz?verbose", 200, "ok\n[+] Mail flows\n[+] listener submissions\n[+] listener submission\n[+] listener mx\n" +
			"[+] server 127.0.0.1:10025 of backend mta\n[+] server 10.0.0.7:10025 of backend mta\n[+] server 127.0.0.1:10026 of backend mta-mx\n" +
			"[+] certificate for mail.example.org\n[+] certificate for smtp.example.org, imap.example.org\n"},
	} {
		s.set(c.status)
		if response, body := s.ask(t, "GET", c.path); response.StatusCode != c.code || body != c.says {
			t.Errorf("%s: %d\n%s", c.path, response.StatusCode, body)
		}
	}
	s.set(down())
	_, body := s.ask(t, "GET", "/readyz?verbose")
	for _, line := range []string{
		"[-] Mail does not flow on submissions and submission: ",
		"[-] listener submission: backend mta is down: dial 127.0.0.1:10025: connect: connection refused\n",
		"[+] listener mx\n",
		"[-] server 10.0.0.7:10025 of backend mta: dial",
		"[-] certificate for mail.example.org: it ends in 5 days",
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %q in\n%s", line, body)
		}
	}
}

// livez holds while everything else hangs: whoever restarts us for it would
// only lose the sessions.
func TestLivezAsksNobody(t *testing.T) {
	s := newSite(t, busy())
	s.mu.Lock() // Status waits for it
	defer s.mu.Unlock()
	if response, body := s.ask(t, "GET", "/livez"); response.StatusCode != 200 || body != "ok\n" {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestChanges(t *testing.T) {
	s := newSite(t, busy())
	for _, c := range []struct {
		path   string
		status Status
		code   int
		says   string
		change string
	}{
		{"/drain", busy(), 202, `{"state": "draining", "sessions": 29}`, "drain"},
		{"/reload", busy(), 200, `{"time": "2027-03-04T12:00:00Z", "result": "ok"}`, "reload"},
		{"/reload", down(), 409, `{"time": "2027-03-04T11:59:00Z", "result": "failed", "error": "smtpseal.yaml:3: listen: no port"}`, "reload"},
		{"/certificates/renew?name=mail.example.org", busy(), 200, `{"name": "mail.example.org", "result": "ok"}`, "renew mail.example.org"},
		{"/certificates/renew?name=slow.example.org", busy(), 502,
			`{"name": "slow.example.org", "result": "failed", "error": "order: 429 rateLimited"}`, "renew slow.example.org"},
		{"/certificates/renew?name=a%20b", busy(), 404,
			`{"name": "a b", "result": "failed", "error": "a b: no certificate is obtained for this name"}`, "renew a b"},
		{"/certificates/renew", busy(), 400,
			`{"name": "", "result": "failed", "error": "say for which name: POST /certificates/renew?name=mail.example.org"}`, ""},
	} {
		s.set(c.status)
		response, body := s.ask(t, "POST", c.path, mark)
		if response.StatusCode != c.code || !sameJSON(body, c.says) || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", c.path, response.StatusCode, body)
		}
		if got := strings.Join(s.made(), ","); got != c.change {
			t.Errorf("%s: changed %q", c.path, got)
		}
	}
	if n := s.Logs.FilterLevelExact(zap.InfoLevel).Len(); n != 6 {
		t.Errorf("%d lines of the log about 6 changes", n)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	json.Unmarshal([]byte(a), &x)
	json.Unmarshal([]byte(b), &y)
	one, _ := json.Marshal(x)
	two, _ := json.Marshal(y)
	return string(one) == string(two)
}

// A change outlives whoever asked for it: half a reload is none.
func TestChangeOutlivesItsClient(t *testing.T) {
	s := newSite(t, busy())
	begun, end, saw := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	s.Reload = func(ctx context.Context) Reload {
		close(begun)
		<-end
		saw <- ctx.Err()
		return Reload{Result: ok}
	}
	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/reload", nil)
	request.Header.Set(RequestHeader, "1")
	go func() {
		<-begun
		cancel()
	}()
	if _, err := http.DefaultTransport.RoundTrip(request); err == nil {
		t.Fatal("it has not gone")
	}
	close(end)
	if err := <-saw; err != nil {
		t.Errorf("the reload was told to stop: %v", err)
	}
}

// TestStatusIsWhatWasSaid: nothing is lost on the way.
func TestStatusIsWhatWasSaid(t *testing.T) {
	s := newSite(t, down())
	response, body := s.ask(t, "GET", "/status")
	want, _ := json.Marshal(down().complete())
	if response.Header.Get("Content-Type") != "application/json" || !sameJSON(body, string(want)) {
		t.Errorf("%s\nwant %s", body, want)
	}
}

func TestPprof(t *testing.T) {
	s := newSite(t, busy())
	s.Allow(nil, true)
	for path, want := range map[string]string{
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile:", "/debug/pprof/profile?seconds=1": "",
	} {
		if response, body := s.ask(t, "GET", path); response.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, response.StatusCode, body)
		}
	}
}
