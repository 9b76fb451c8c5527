package certs

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"smtpseal/test/pebble"
)

// A dnsRig solves DNS-01 badly.
type dnsRig struct{ present, wait error }

func (d dnsRig) Present(context.Context, acme.Challenge) error { return d.present }
func (d dnsRig) Wait(context.Context, acme.Challenge) error    { return d.wait }
func (d dnsRig) CleanUp(context.Context, acme.Challenge) error { return nil }

// Each failure is said once, in the operator's words, with a remedy for what it
// is: a name server that refuses is not the CA's.
func TestFailuresAreSaidPlainlyWithTheirRemedy(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	byDNS := func(rig dnsRig) func(*Options) {
		return func(o *Options) { o.ACME.Challenges, o.ACME.DNS = []string{"dns-01"}, rig }
	}
	for name, c := range map[string]struct {
		fault  func(*Options)
		text   string // HOST and ORDER stand for what differs
		remedy string // begins with
	}{
		"refused-by-server": {byDNS(dnsRig{present: errors.New("update x in zone y at 192.0.2.1:53: connection refused")}),
			"HOST: dns-01: update x in zone y at 192.0.2.1:53: connection refused ORDER", "nobody listens at the name server's"},
		"badsig": {byDNS(dnsRig{present: errors.New("update refused: BADSIG: tsig_secret is not the server's for key k")}),
			"HOST: dns-01: update refused: BADSIG: tsig_secret is not the server's for key k ORDER", "the TSIG secret"},
		"refused": {byDNS(dnsRig{wait: errors.New("x is not visible after 2m0s: 192.0.2.1:53 says REFUSED")}),
			"HOST: dns-01: x is not visible after 2m0s: 192.0.2.1:53 says REFUSED ORDER", "the name server refuses us"},
		"unknown-to-dns": {byDNS(dnsRig{present: errors.New("it is Tuesday")}),
			"HOST: dns-01: it is Tuesday ORDER", "see the error: the name server"},
		"unseen": {byDNS(dnsRig{}),
			"HOST: dns-01: authorization failed: HTTP 403 urn:ietf:params:acme:error:unauthorized - No TXT records found for DNS challenge", unseen},
		"unreachable": {func(o *Options) { o.ACME.HTTPListen = "127.0.0.1:1" }, "", "the CA cannot reach us"},
		"ca-down": {func(o *Options) { o.ACME.Directories[0].URL = "https://127.0.0.1:1/dir" },
			`HOST: registering account [mailto:postmaster@example.org] with server: Get "https://127.0.0.1:1/dir": dial tcp 127.0.0.1:1: connect: connection refused`,
			"the CA's server is down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := name + ".plain.example.org"
			o := withNames(acmeOptions(t, ca), host)
			o.ACME.timeout = 20 * time.Second
			c.fault(&o)
			core, logs := observer.New(zapcore.InfoLevel)
			o.Log = zap.New(core)
			s, err := Open(t.Context(), o)
			must(t, err)
			run(t, s)
			await(t, "a failure", func() bool { return s.Certificates()[0].Failures > 0 })
			at := s.Certificates()[0]
			text := regexp.MustCompile(`\(order=[^)]*\)`).ReplaceAllString(at.LastError, "ORDER")
			text = regexp.MustCompile(`^127\.0\.0\.1:\d+`).ReplaceAllString(text, "HOST")
			if c.text != "" && text != c.text {
				t.Errorf("said\n%s, want\n%s", text, c.text)
			}
			if strings.Contains(text, "certmagic") || strings.Contains(text, "["+host) || strings.Contains(text, "(ca=") {
				t.Errorf("said %s", text)
			}
			if since := time.Since(at.LastTry); since < 0 || since > time.Minute {
				t.Errorf("last tried %s ago", since)
			}
			await(t, "the log", func() bool { return count(logs, "certificate not obtained: there is none to serve yet") > 0 })
			fields := logs.FilterMessage("certificate not obtained: there is none to serve yet").All()[0].ContextMap()
			if got := fields["remedy"].(string); !strings.HasPrefix(got, c.remedy) {
				t.Errorf("remedy %q, want %q", got, c.remedy)
			}
		})
	}
}

func TestPlainNamesAWildcardOnce(t *testing.T) {
	err := errors.New("[*.example.org] solving challenge: *.example.org: [*.example.org] authorization failed: HTTP 403 x (ca=https://ca/dir)")
	bare := errors.New("[*.example.org] solving challenge: example.org: [example.org] authorization failed: HTTP 403 x (ca=https://ca/dir)")
	for _, err := range []error{err, bare} {
		got := plain(err, "*.example.org", "dns-01")
		if got.Error() != "dns-01: authorization failed: HTTP 403 x" || !errors.Is(got, err) {
			t.Errorf("%q", got)
		}
	}
}

func TestRemedies(t *testing.T) {
	for text, want := range map[string]string{
		"storage: lock x: connection refused":                                "look at the storage",
		"ca: HTTP 429 urn:ietf:params:acme:error:rateLimited - too many":     "the CA has had too many requests",
		"ca: dns-01: HTTP 429 urn:ietf:params:acme:error:rateLimited - many": "the CA has had too many requests",
		"ca: dns-01: HTTP 400 urn:ietf:params:acme:error:dns - NXDOMAIN":     unseen,
		"ca: http-01: HTTP 400 urn:ietf:params:acme:error:dns - NXDOMAIN":    "the CA finds no address",
		"ca: dns-01: look for a CNAME: 192.0.2.1:53 says NXDOMAIN":           "there is no such name in DNS",
		"ca: dns-01: update refused: NOTAUTH: is the server the primary":     "that name server does not own",
		"ca: dns-01: find the zone of x: 192.0.2.1:53: no answer: name":      "nobody who was asked knows",
		"ca: dns-01: cloudflare: 403 Forbidden":                              "the DNS provider does not let",
		"ca: dial tcp: lookup ca.example.org: no such host":                  "this machine cannot resolve the CA's",
		"ca: dns-01: dial tcp: lookup api.example.org: no such host":         "this machine cannot resolve the DNS",
		"the sky fell": "see the error; ",
	} {
		if got := remedy(errors.New(text)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// A certificate that was had by a challenge says by which; a failure behind it
// says that the one in use is served; and whoever observes hears of each.
func TestChallengeAndFailureAreTold(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			ca := besides(t, ca)
			o := withNames(acmeOptions(t, ca, challenge), challenge+".told.example.org")
			heard := make(chan Event, 100)
			o.Observe = func(e Event) { heard <- e }
			r := startACME(t, ca, o)
			r.awaitReady(t)
			await(t, "the log", func() bool { return count(r.logs, "certificate obtained") == 1 })
			if got := r.logs.FilterMessage("certificate obtained").All()[0].ContextMap()["challenge"]; got != challenge {
				t.Errorf("obtained by %q", got)
			}
			must(t, ca.Down())
			if r.Renew(t.Context(), challenge+".told.example.org") == nil {
				t.Error("renewed without a CA")
			}
			if count(r.logs, "certificate not renewed: the one in use is served") != 1 {
				t.Error("the failure is not logged")
			}
			for _, want := range []EventKind{EventObtained, EventFailed} {
				if e := <-heard; e.Kind != want || e.Name != challenge+".told.example.org" || (e.Error != "") != (want == EventFailed) {
					t.Errorf("%+v, want %s", e, want)
				}
			}
		})
	}
}

// Who runs no Source is told by the error, and by nothing else; and a name that
// there is not costs no order for those that there are.
func TestRenewByACommand(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	must(t, ca.Down())
	o := withNames(acmeOptions(t, ca), "command.example.org")
	s, logs := open(t, o)
	if err := s.CanRenew("Command.Example.org."); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"other.example.org", ".."} {
		if err := s.CanRenew(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Renew(t.Context(), "command.example.org"); err == nil || strings.Count(err.Error(), "connection refused") != 1 {
		t.Errorf("%v", err)
	}
	if logs.FilterLevelExact(zap.ErrorLevel).Len() > 0 {
		t.Errorf("said twice: %v", logs.All())
	}
	// Another process that looks learns of it, and when it was.
	o.ReadOnly = true
	looker, _ := open(t, o)
	looker.Recall(t.Context())
	want, got := s.Certificates()[0], looker.Certificates()[0]
	if got.LastError != want.LastError || got.LastTry.Sub(want.LastTry).Abs() > 2*time.Second {
		t.Errorf("%q at %s, want %q at %s", got.LastError, got.LastTry, want.LastError, want.LastTry)
	}
}

// What a version before this one has stored has no time.
func TestRecallsAFailureWithoutATime(t *testing.T) {
	for text, want := range map[string]string{"127.0.0.1: refused": "", "2026-11-22T06:00:00Z ca: refused": "2026-11-22T06:00:00Z", "": ""} {
		m := &managed{issuance: &issuance{}}
		m.recall(text)
		if want == "" {
			if m.state.lastError != text || !m.state.lastTry.IsZero() {
				t.Errorf("%q: %+v", text, m.state)
			}
		} else if m.state.lastError != "ca: refused" || m.state.lastTry.Format(time.RFC3339) != want {
			t.Errorf("%q: %+v", text, m.state)
		}
	}
}

// A token that another replica has put there and that cannot be read is said,
// not for each who asks; that there is none is not said at all.
func TestUnreadableTokenIsSaid(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	for name, c := range map[string]struct {
		spoil func(*memory, string)
		said  int
	}{
		"none":    {func(*memory, string) {}, 0},
		"failing": {func(m *memory, _ string) { m.fail(errors.New("cipher: message authentication failed")) }, 1},
		"cut off": {func(m *memory, key string) { m.Store(t.Context(), key, []byte(`{"type":`)) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newMemory()
			o := withNames(acmeOptions(t, ca), "token.example.org")
			o.Storage = store
			s, logs := open(t, o)
			c.spoil(store, "acme/"+certmagic.StorageKeys.Safe(s.acme.issuers[0].IssuerKey())+"/challenge_tokens/token.example.org.json")
			for range 5 {
				request := httptest.NewRequest(http.MethodGet, "http://token.example.org/.well-known/acme-challenge/token", nil)
				s.HTTPChallenge().ServeHTTP(httptest.NewRecorder(), request)
			}
			const text = "challenge not answered: its token in the storage cannot be read"
			if got := count(logs, text); got != c.said {
				t.Errorf("said %d times: %v", got, logs.All())
			}
			if got := logs.FilterMessage(text); got.Len() > 0 && got.All()[0].ContextMap()["name"] != "token.example.org" {
				t.Error(got.All())
			}
		})
	}
}
