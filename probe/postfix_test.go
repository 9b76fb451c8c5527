package probe_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net"
	"strings"
	"testing"
	"time"

	"smtpseal/probe"
	"smtpseal/test/faulty"
	"smtpseal/test/postfix"
)

// A real Postfix that ends TLS itself, set up as it should be, is clean: what
// it does not do are notes.
func TestPostfixWithTLSOfItsOwnIsClean(t *testing.T) {
	t.Parallel()
	authority := faulty.NewAuthority(t)
	leaf := authority.Leaf(t, func(*x509.Certificate) {})
	var chain bytes.Buffer
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pem.Encode(&chain, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range leaf.Certificate {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	services := []postfix.Service{
		{Name: "implicit", TLS: "implicit", SASL: true}, {Name: "starttls", TLS: "starttls", SASL: true}, {Name: "starttls-optional", TLS: "starttls-optional"},
		{Name: "lenient", TLS: "implicit", SASL: true, Options: []string{"smtpd_forbid_bare_newline=no"}},
	}
	server := postfix.Start(t, postfix.Config{Chain: chain.Bytes(), Services: services})
	r := &rig{records: map[string][]string{}}
	options := probe.Options{
		Roots: authority.Pool(), Resolver: r.dns(t), ServerName: faulty.Name,
		Relay: &probe.Envelope{From: "a@example.org", To: "b@example.net"}, SmuggleTo: "willing@" + postfix.Domain, Silence: 300 * time.Millisecond,
	}
	for _, mode := range modes {
		host, port, _ := net.SplitHostPort(server.Addr(mode))
		options.Targets = append(options.Targets, probe.Target{Host: host, Port: port, Mode: probe.Mode(mode)})
	}
	notes := map[string]bool{"alpn": true, "http": true, "tlsa": true, "mx": true, "mta-sts": true}
	report := probe.Run(t.Context(), options, nil)
	for _, e := range report.Endpoints {
		for _, c := range e.Checks {
			if c.Status != probe.OK && !(c.Status == probe.Note && notes[c.ID]) {
				t.Errorf("%s: %+v", e.Mode, c)
			}
		}
		if len(e.Checks) < 24 {
			t.Errorf("%s: only %d checks", e.Mode, len(e.Checks))
		}
	}
	if mail := server.Delivered(t); len(mail) > 0 {
		t.Errorf("delivered %v", mail)
	}

	// And one with a single setting that is not: its administrator reads which.
	host, port, _ := net.SplitHostPort(server.Addr("lenient"))
	options.Targets = []probe.Target{{Host: host, Port: port, Mode: probe.Implicit}}
	report = probe.Run(t.Context(), options, nil)
	found := find(t, report.Endpoints[0], "smuggling")
	if report.Failures != 1 || found.Status != probe.Fail || !strings.Contains(found.Remedy, "smtpd_forbid_bare_newline") {
		t.Errorf("%d failures, %+v", report.Failures, found)
	}
	server.WaitMail(t, options.SmuggleTo)
}
