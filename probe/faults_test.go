package probe_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"smtpseal/probe"
	"smtpseal/test/faulty"
)

var modes = []string{"implicit", "starttls", "starttls-optional"}

// A right server is clean: every check is made, and every one is ok.
func TestRightServerIsClean(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := build(t, faulty.Config{Mode: mode})
			e, all, report := r.run(t)
			for _, c := range e.Checks {
				if c.Status != probe.OK || c.Remedy != "" || c.Title == "" {
					t.Errorf("%+v", c)
				}
			}
			if string(e.Mode) != mode || report.Failures != 0 || report.Warnings != 0 {
				t.Errorf("mode %s, %d failures, %d warnings", e.Mode, report.Failures, report.Warnings)
			}
			if want := map[string]int{"implicit": 25, "starttls": 29, "starttls-optional": 29}[mode]; len(all) != want {
				t.Errorf("%d checks, want %d: %v", len(all), want, slices.Sorted(maps.Keys(all)))
			}
			if mail := r.server.Delivered(); len(mail) > 0 {
				t.Errorf("delivered %q", mail)
			}
		})
	}
}

// Each fault is named by its check, and all others are as on a right server.
// A fault behind which nothing can be seen is the last check.
func TestEachFaultIsNamed(t *testing.T) {
	const implicit, starttls, optional = "implicit", "starttls", "starttls-optional"
	only := func(some ...string) []string { return some }
	for _, c := range []struct {
		fault faulty.Fault
		id    string
		want  probe.Status
		says  string // in the detail
		modes []string
		ends  bool
		also  map[string]probe.Status // what cannot be otherwise then
	}{
		{fault: faulty.ClosedPort, id: "reachable", says: "connection refused", ends: true},
		{fault: faulty.Refusing, id: "greeting", says: "554", ends: true},
		{fault: faulty.Busy, id: "greeting", says: "no time", ends: true},
		{fault: faulty.NotSMTP, id: "greeting", says: "no SMTP", ends: true},
		{fault: faulty.WrongMode, id: "handshake", says: "in clear here", modes: only(implicit), ends: true},
		{fault: faulty.NoStartTLS, id: "starttls", says: "not offered", modes: only(starttls, optional), ends: true},
		{fault: faulty.AuthInClear, id: "auth-before-tls", says: "PLAIN LOGIN", modes: only(starttls, optional)},
		{fault: faulty.AuthTakenUnsaid, id: "auth-before-tls", says: "hidden, but", modes: only(starttls, optional)},
		{fault: faulty.MailInClear, id: "mail-before-tls", says: "accepted in clear", modes: only(starttls)},
		{fault: faulty.BrokenTLS, id: "handshake", says: "no handshake", ends: true},
		{fault: faulty.ClearBehind, id: "handshake", says: "injected", modes: only(starttls, optional), ends: true},
		{fault: faulty.Injection, id: "injection", says: "same segment", modes: only(starttls, optional)},
		{fault: faulty.HTTP, id: "http", says: "HTTP/1.1 200"},
		{fault: faulty.NoEHLOInside, id: "ehlo-inside-tls", says: "502", ends: true},
		{fault: faulty.NoAuth, id: "auth-inside-tls", says: "log in", modes: only(implicit, starttls)},
		{fault: faulty.StartTLSInside, id: "starttls-inside-tls", says: "offered again"},
		{fault: faulty.StartTLSTaken, id: "starttls-inside-tls", says: "begun when asked"},
		{fault: faulty.XCLIENT, id: "leaks", says: "XCLIENT announced", also: map[string]probe.Status{"xclient": probe.Fail}},
		{fault: faulty.XANONYMOUSTLS, id: "leaks", says: "X-ANONYMOUSTLS"},
		{fault: faulty.XEXCH50, id: "leaks", says: "XEXCH50", modes: only(starttls, optional)},
		{fault: faulty.XCLIENTTaken, id: "xclient", says: "was taken"},
		{fault: faulty.ChannelBinding, id: "end-to-end", want: probe.Note, says: "REQUIRETLS, SCRAM-SHA-256-PLUS", modes: only(implicit, starttls)},
		{fault: faulty.OpenRelay, id: "relay", says: "open relay"},
		{fault: faulty.SmugglesBareLF, id: "smuggling", says: `"\n.\n"`},
		{fault: faulty.SmugglesHalfCRLF, id: "smuggling", says: `"\r\n.\r\r\n"`},
		{fault: faulty.Expired, id: "expiry", says: "expired since"},
		{fault: faulty.NotYet, id: "expiry", says: "not valid before"},
		{fault: faulty.FewDays, id: "expiry", says: "renewal has failed"},
		{fault: faulty.FewWeeks, id: "expiry", want: probe.Warn, says: "days left"},
		{fault: faulty.WrongName, id: "names", says: "other.example.test"},
		{fault: faulty.Incomplete, id: "chain", says: "only the certificate itself", also: map[string]probe.Status{"ocsp": probe.Note}},
		{fault: faulty.SelfSigned, id: "chain", says: "self-signed"},
		{fault: faulty.UnknownIssuer, id: "chain", says: "not trusted"},
		{fault: faulty.BadStaple, id: "ocsp", says: "bad"},
		{fault: faulty.OldStaple, id: "ocsp", says: "out of date"},
		{fault: faulty.Revoked, id: "ocsp", says: "revoked since"},
		{fault: faulty.TLS10, id: "tls-1.0", says: "accepted"},
		{fault: faulty.TLS11, id: "tls-1.1", says: "accepted"},
		{fault: faulty.NoTLS12, id: "tls-1.2", want: probe.Note, says: "refused"},
		{fault: faulty.NoTLS13, id: "tls-1.3", want: probe.Warn, says: "refused"},
		{fault: faulty.RSAKeyExchange, id: "forward-secrecy", want: probe.Warn, says: "TLS_RSA_WITH_AES_128_GCM_SHA256"},
		{fault: faulty.RC4, id: "weak-ciphers", says: "RC4"},
		{fault: faulty.HTTPByALPN, id: "alpn", says: "http/1.1"},
		{fault: faulty.IgnoresALPN, id: "alpn", want: probe.Note, says: "does not look"},
	} {
		if c.want == "" {
			c.want = probe.Fail
		}
		if c.modes == nil {
			c.modes = modes
		}
		for _, mode := range c.modes {
			t.Run(fmt.Sprintf("%s %s", c.fault, mode), func(t *testing.T) {
				t.Parallel()
				r := build(t, faulty.Config{Mode: mode, Fault: c.fault})
				e, all, report := r.run(t)
				named := find(t, e, c.id)
				if named.Status != c.want || !strings.Contains(named.Detail, c.says) || named.Remedy == "" {
					t.Errorf("%+v", named)
				}
				invalid := slices.Contains([]string{"chain", "names", "expiry"}, c.id) && c.want == probe.Fail && c.fault != faulty.FewDays
				for id, got := range all {
					want := probe.OK
					switch {
					case id == c.id:
						want = c.want
					case c.also[id] != "":
						want = c.also[id]
					case id == "mta-sts" && invalid: // whose policy asks for a valid one
						want = probe.Fail
					}
					if got != want {
						t.Errorf("%s is %s, want %s: %+v", id, got, want, find(t, e, id))
					}
				}
				if last := e.Checks[len(e.Checks)-1].ID == c.id; last != c.ends && c.id != "smuggling" {
					t.Errorf("last check: %v", last)
				}
				if (report.Failures > 0) != (c.want == probe.Fail) {
					t.Errorf("%d failures", report.Failures)
				}
				if mail := r.server.Delivered(); (len(mail) > 0) != (c.id == "smuggling") {
					t.Errorf("delivered %q", mail)
				}
			})
		}
	}
}
