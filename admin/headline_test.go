package admin

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestHeadline: the one sentence names the worst of what is wrong.
func TestHeadline(t *testing.T) {
	refused := "dial 127.0.0.1:10025: connect: connection refused"
	fell := func(s *Status, backend int, servers ...int) {
		for _, i := range servers {
			s.Backends[backend].Servers[i].Up, s.Backends[backend].Servers[i].Error = false, refused
		}
	}
	refuse := func(s *Status) {
		s.Reloads.Last = Reload{Time: noon, Result: failed, Error: "smtpseal.yaml:3: listen: no port"}
	}
	for name, c := range map[string]struct {
		change func(*Status)
		mail   Mail
		want   string
	}{
		"all is well": {func(*Status) {}, MailFlows, "Mail flows"},
		"starting":    {func(s *Status) { s.State, s.Reasons = Starting, []string{"binding"} }, MailStopped, "Starting: binding"},
		"draining":    {func(s *Status) { s.State = Draining }, MailImpaired, "Draining: 29 sessions left"},
		"drained": {func(s *Status) { s.State, s.Listeners = Draining, nil }, MailImpaired,
			"Draining: no session left"},
		"one session left": {func(s *Status) {
			s.State, s.Listeners = Draining, []Listener{{Sessions: map[string]int{"body": 1}}}
		}, MailImpaired, "Draining: 1 session left"},
		"no listeners": {func(s *Status) { s.Listeners = nil }, MailStopped, "Mail does not flow: there is no listener"},
		"one of two servers is down": {func(s *Status) { fell(s, 0, 1) }, MailImpaired,
			"Mail flows, but server 10.0.0.7:10025 of backend mta is down: " + refused},
		"one of two backends is down": {func(s *Status) { fell(s, 0, 0, 1) }, MailImpaired,
			"Mail does not flow on submissions and submission: backend mta is down: " + refused},
		"all backends are down": {func(s *Status) { fell(s, 0, 0, 1); fell(s, 1, 0) }, MailStopped,
			"Mail does not flow: backend mta is down: " + refused},
		"a backend without servers": {func(s *Status) { s.Backends[1].Servers = nil }, MailImpaired,
			"Mail does not flow on mx: backend mta-mx has no servers"},
		"no certificate": {func(s *Status) {
			for i := range s.Listeners {
				s.Listeners[i].TLSReady = false
			}
			s.Certificates = []Certificate{{Names: []string{"mail.example.org"}, LastError: "acme: 403"}}
		}, MailImpaired, "Mail does not flow on submissions and submission: there is no certificate for mail.example.org: acme: 403"},
		"no certificate on 25, where mail comes in clear": {func(s *Status) { s.Listeners[2].TLSReady = false }, MailImpaired,
			"Mail flows, but mx has no TLS: there is no certificate"},
		"a certificate that nobody renews": {func(s *Status) { s.Certificates[1].Problem = "it ends in 3 days" }, MailImpaired,
			"Mail flows, but see the certificate for smtp.example.org, imap.example.org: it ends in 3 days"},
		"not ready": {func(s *Status) { s.Ready, s.Reasons = false, []string{"storage is full", "more"} }, MailImpaired,
			"Mail flows, but clients are sent elsewhere, because smtpseal is not ready: storage is full"},
		"a relay": {func(s *Status) { s.Backends[1].Warning = "it relays" }, MailImpaired,
			"Mail flows, but backend mta-mx needs a look: it relays"},
		"a bad file": {func(s *Status) {
			s.Reloads.Last = Reload{Time: noon, Result: failed, Error: "smtpseal.yaml:3: listen: no port\nsmtpseal.yaml:9: more"}
		}, MailImpaired, "Mail flows, but the configuration is the old one, because the last reload failed: smtpseal.yaml:3: listen: no port …"},
		"a newer file was not taken": {func(s *Status) { s.Certificates[1].LastError = "/etc/smtpseal/tls.key: the key is another's" }, MailImpaired,
			"Mail flows, but the certificate for smtp.example.org, imap.example.org was not replaced: /etc/smtpseal/tls.key: the key is another's"},
		"one that was never there": {func(s *Status) {
			s.Certificates = append(s.Certificates, Certificate{Names: []string{"new.example.org"}, LastError: "acme: 403"})
		}, MailImpaired, "Mail flows, but there is no certificate for new.example.org: acme: 403"},
		"a server and a bad file": {func(s *Status) { fell(s, 0, 1); refuse(s) }, MailImpaired,
			"Mail flows, but server 10.0.0.7:10025 of backend mta is down: " + refused + "; the configuration on disk was refused"},
		"a backend and a bad file": {func(s *Status) { fell(s, 0, 0, 1); refuse(s) }, MailImpaired,
			"Mail does not flow on submissions and submission: backend mta is down: " + refused + "; the configuration on disk was refused"},
		"no listeners and a bad file": {func(s *Status) { s.Listeners = nil; refuse(s) }, MailStopped,
			"Mail does not flow: there is no listener; the configuration on disk was refused"},
		"not ready because of a server": {func(s *Status) { fell(s, 0, 1); s.Ready, s.Reasons = false, []string{"it is down"} }, MailImpaired,
			"Mail flows, but server 10.0.0.7:10025 of backend mta is down: " + refused},
		"too much for one sentence": {func(s *Status) {
			fell(s, 0, 1)
			s.Certificates[0].Problem, s.Certificates[1].LastError = "it ends in 3 days", "no key"
			s.Backends[0].Warning, s.Backends[1].Warning = "it relays", "it relays"
			refuse(s)
		}, MailImpaired, "Mail flows, but see the certificate for mail.example.org: it ends in 3 days; server 10.0.0.7:10025 of backend mta is down; " +
			"backend mta needs a look; backend mta-mx needs a look; and 2 more"},
		"nothing known": {func(s *Status) { s.Backends[1].Servers[0].Known = false }, MailFlows,
			"Mail should flow: backend mta-mx has not been asked yet"},
	} {
		s := busy()
		c.change(&s)
		if s = s.complete(); s.Headline != c.want || s.Mail != c.mail {
			t.Errorf("%s: %s, %q\nwant %s, %q", name, s.Mail, s.Headline, c.mail, c.want)
		}
	}
}

// A backend's last words may be long and of any octets.
func TestHeadlineIsBounded(t *testing.T) {
	s := busy()
	for i := range s.Backends {
		for j := range s.Backends[i].Servers {
			s.Backends[i].Servers[j] = BackendServer{Address: "a", Error: strings.Repeat("é", 5000)}
		}
	}
	s = s.complete()
	if len(s.Headline) > maxHeadline+len(" …") || !utf8.ValidString(s.Headline) || !strings.HasSuffix(s.Headline, "é …") {
		t.Errorf("%d octets: %q", len(s.Headline), s.Headline)
	}
	for range 100 {
		s.Certificates = append(s.Certificates, Certificate{Names: []string{strings.Repeat("é", 5000)}, NotAfter: noon, Problem: "p"})
	}
	s = s.complete()
	if limit := maxHeadline + maxElse*(maxName+len("; ")) + 50; len(s.Headline) > limit || !utf8.ValidString(s.Headline) {
		t.Errorf("%d octets: %q", len(s.Headline), s.Headline)
	}
	if !strings.HasSuffix(s.Headline, "; and 97 more") {
		t.Errorf("%q", s.Headline)
	}
}
