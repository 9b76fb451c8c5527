package dns

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libdns/libdns"
)

const (
	password = "correct horse battery"
	basic    = "Ym90OmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==" // bot:password
)

// hook is the provider httpreq for a server by TLS.
func hook(t *testing.T, server *httptest.Server) Provider {
	t.Helper()
	provider := open(t, "httpreq", Settings{"endpoint": server.URL + "/bridge/", "username": "bot", "password": password})
	trust(&provider.(*webhook).api, server)
	return provider
}

func account(t *testing.T, server *httptest.Server) Provider {
	t.Helper()
	provider := open(t, "acmedns", Settings{"url": server.URL, "username": "bot", "password": password, "subdomain": "d420c923"})
	trust(&provider.(*acmeDNS).api, server)
	return provider
}

// trust has an api believe a test server's certificate.
func trust(a *api, server *httptest.Server) {
	a.client.Transport.(*polite).next = server.Client().Transport
}

var leaf = []libdns.Record{libdns.TXT{Name: "d420c923", TTL: time.Minute, Text: "value"}}

// Both speak JSON by POST; the same faults must end them in the same way.
var posters = map[string]func(*testing.T, *httptest.Server) Provider{"httpreq": hook, "acmedns": account}

func TestWebhookRequests(t *testing.T) {
	var paths []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || user != "bot" || pass != password || r.Header.Get("Content-Type") != "application/json" ||
			string(body) != `{"fqdn":"_acme-challenge.example.test.","value":"value"}` {
			t.Errorf("%s %s %q %q %v", r.Method, user, pass, body, r.Header)
		}
		paths = append(paths, r.URL.Path)
		io.WriteString(w, "whatever")
	}))
	defer server.Close()
	provider := hook(t, server)
	_, err := provider.AppendRecords(t.Context(), "example.test.", aText)
	good(t, err)
	_, err = provider.DeleteRecords(t.Context(), "example.test.", aText)
	good(t, err)
	if !slices.Equal(paths, []string{"/bridge/present", "/bridge/cleanup"}) {
		t.Errorf("paths %q", paths)
	}
}

func TestWebhookWithoutCredentialsSendsNone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("sends credentials")
		}
	}))
	defer server.Close()
	_, err := open(t, "httpreq", Settings{"endpoint": server.URL}).AppendRecords(t.Context(), "example.test.", aText)
	good(t, err)
}

func TestACMEDNSRequests(t *testing.T) {
	var values []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var change map[string]string
		if err := json.NewDecoder(r.Body).Decode(&change); err != nil || r.Method != "POST" || r.URL.Path != "/update" ||
			r.Header.Get("X-Api-User") != "bot" || r.Header.Get("X-Api-Key") != password || change["subdomain"] != "d420c923" {
			t.Errorf("%s %s %v %v", r.Method, r.URL, r.Header, change)
		}
		values = append(values, change["txt"])
		json.NewEncoder(w).Encode(map[string]string{"txt": change["txt"]})
	}))
	defer server.Close()
	provider := account(t, server)
	for _, value := range []string{"one", "two"} {
		record := []libdns.Record{libdns.TXT{Name: "d420c923", Text: value}}
		_, err := provider.AppendRecords(t.Context(), "auth.example.test.", record)
		good(t, err)
		_, err = provider.DeleteRecords(t.Context(), "auth.example.test.", record)
		good(t, err)
	}
	if !slices.Equal(values, []string{"one", "two"}) {
		t.Errorf("updates %q: there is no call that deletes", values)
	}
}

// Without the CNAME every order would fail at the CA two minutes later.
func TestACMEDNSSaysWhichRecordToMake(t *testing.T) {
	server := oneServer(t, "_acme-challenge.wrong CNAME elsewhere")
	for subdomain, target := range map[string]string{
		"d420c923":                   "d420c923.acme-dns.example.test.",
		"D420C923.auth.example.test": "d420c923.auth.example.test.",
	} {
		provider := open(t, "acmedns", Settings{"url": "https://acme-dns.example.test:8443", "username": "bot", "password": password, "subdomain": subdomain})
		s := solver(t, Options{Provider: provider, Resolvers: []string{server.Addr()}})
		for name, parts := range map[string][]string{
			"mail":  {"has no CNAME", `make the record "_acme-challenge.mail.example.test. CNAME ` + target + `"`},
			"wrong": {"is a CNAME to elsewhere.example.test, not", `make the record "_acme-challenge.wrong.example.test. CNAME ` + target + `"`},
		} {
			says(t, s.Present(t.Context(), challenge(name+".example.test", "one")), parts...)
		}
	}
}

func TestACMEDNSThatIsNone(t *testing.T) {
	for answer, want := range map[string]string{
		`<html>welcome</html>`: "not the JSON",
		`{"txt":"another"}`:    "another value",
		`{}`:                   "another value",
		`[]`:                   "not the JSON",
	} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, answer) }))
		_, err := account(t, server).AppendRecords(t.Context(), "auth.example.test.", leaf)
		says(t, err, "acmedns", want)
		server.Close()
	}
}

func TestAPIsThatRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   []string
	}{
		"401 that repeats the credentials": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(401)
			io.WriteString(w, `{"message":"no such user: `+password+" "+r.Header.Get("Authorization")+`"}`)
		}, []string{"401 Unauthorized", "no such user", "is the token or password right"}},
		"403": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(403)
			io.WriteString(w, `{"error":"forbidden"}`)
		}, []string{"403 Forbidden: forbidden:"}},
		"429 for an hour": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, []string{"429 Too Many Requests", "after 3600"}},
		"500": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, "<html>\x1b[31m"+strings.Repeat("oh dear ", 1000))
		}, []string{"500 Internal Server Error", "oh dear"}},
		"redirect to another": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusTemporaryRedirect)
		}, []string{"307"}},
		"endless body": {func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
					return
				}
			}
		}, []string{"longer than 1 MiB"}},
		"cut": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, []string{"unexpected EOF"}},
	} {
		for poster, make := range posters {
			t.Run(name+" "+poster, func(t *testing.T) {
				server := httptest.NewTLSServer(test.answer)
				defer server.Close()
				_, err := make(t, server).AppendRecords(t.Context(), "auth.example.test.", leaf)
				says(t, err, append(test.want, poster)...)
				for _, secret := range []string{password, basic, "\x1b"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error has %q: %v", secret, err)
					}
				}
				if len(err.Error()) > 2*messageLimit {
					t.Errorf("error of %d octets", len(err.Error()))
				}
			})
		}
	}
}

func TestRetryAfterIsRespectedOnce(t *testing.T) {
	for _, status := range []int{429, 503} {
		for poster, make := range posters {
			var calls atomic.Int32
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); len(body) == 0 {
					t.Error("the second request has no body")
				}
				if calls.Add(1) == 1 {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(status)
					return
				}
				io.WriteString(w, `{"txt":"value"}`)
			}))
			began := time.Now()
			_, err := make(t, server).AppendRecords(t.Context(), "auth.example.test.", leaf)
			if took := time.Since(began); err != nil || calls.Load() != 2 || took < time.Second {
				t.Errorf("%s %d: %d calls in %s: %v", poster, status, calls.Load(), took, err)
			}
			server.Close()
		}
	}
}

func TestRetryAfterAlways(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(503)
	}))
	defer server.Close()
	_, err := hook(t, server).AppendRecords(t.Context(), "example.test.", aText)
	says(t, err, "503", "tried again after 0")
	if calls.Load() != 2 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestASilentAPICanBeCancelled(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := hook(t, server).AppendRecords(ctx, "example.test.", aText)
	says(t, err, "deadline exceeded")
}

func TestRetryAfterIsReadAsRFC9110Section1023(t *testing.T) {
	now := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"7":                             7 * time.Second,
		"Sun, 22 Nov 2026 05:00:09 GMT": 9 * time.Second,
		"Sun, 22 Nov 2026 04:00:09 GMT": 0,
		"":                              -1,
		"-1":                            -1,
		"soon":                          -1,
		"99999999999999999999":          -1,
	} {
		got, ok := retryAfter(header, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s %v", header, got, ok)
		}
	}
}

func TestURLsOfServers(t *testing.T) {
	log, lines := logger(t, "hush")
	for text, good := range map[string]bool{
		"https://dns.example.test/x/": true, "http://127.0.0.1:8080": true, "http://[::1]:1": true,
		"dns.example.test": false, "ftp://x": false, "https://": false, "": false,
		"https://bot:hush@dns.example.test": false, "https://dns.example.test/?key=hush": false,
	} {
		_, err := baseURL(text, log)
		if (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the secret is in the error: %v", err)
		}
	}
	if lines.Len() != 0 {
		t.Errorf("warned without need: %v", lines.All())
	}
	if _, err := baseURL("http://dns.example.test", log); err != nil || lines.Len() != 1 {
		t.Errorf("%v, %d warnings", err, lines.Len())
	}
}

// Every provider refuses what it does not know, and demands what it needs; the
// table is what cmd compares the configuration with.
func TestTheTableOfProviders(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(Providers)) {
		if _, err := Open(name, Settings{"no_such_key": "x"}, nil); err == nil || !strings.Contains(err.Error(), "unknown key no_such_key") {
			t.Errorf("%s: %v", name, err)
		}
		for _, key := range Providers[name].Keys {
			if !key.Required {
				continue
			}
			if _, err := Open(name, nil, nil); err == nil || !strings.Contains(err.Error(), key.Name+" is missing") {
				t.Errorf("%s without %s: %v", name, key.Name, err)
			}
		}
	}
	if encoded := base64.StdEncoding.EncodeToString([]byte("bot:" + password)); encoded != basic {
		t.Fatal("the tests look for the wrong secret")
	}
}

// An API may repeat the password where its words are cut off: half of it would
// not be found any more.
func TestSecretAtTheCutIsHidden(t *testing.T) {
	const password = "correct-horse-battery-staple"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, strings.Repeat("x", messageLimit-10)+password)
	}))
	defer server.Close()
	a := &api{client: server.Client(), base: server.URL, secrets: []string{password}}
	err := a.call(t.Context(), http.MethodGet, "/", nil, nil)
	if err == nil || strings.Contains(err.Error(), password[:8]) {
		t.Errorf("said %v", err)
	}
}
