package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// at is a connection that was accepted at an address.
type at struct {
	net.Conn
	addr net.Addr
}

func (a at) LocalAddr() net.Addr { return a.addr }

func tcp(addr string) at { return at{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))} }

func TestChoiceByServerName(t *testing.T) {
	ca := newPKI(t)
	x := newIndex()
	certs := map[string]*tls.Certificate{}
	for _, c := range []struct {
		id string
		s  spec
	}{
		{"first", spec{names: []string{"mail.example.org"}}},
		{"wildcard", spec{names: []string{"*.example.org"}}},
		{"exact", spec{names: []string{"smtp.example.org"}}},
		{"late", spec{names: []string{"mail.example.org", "late.example.net"}}},
		{"v4", spec{names: []string{"192.0.2.1"}}},
		{"v6", spec{names: []string{"2001:db8::1", "both.example.net"}}},
	} {
		certs[c.id] = ca.certificate(c.s)
		x.add(certs[c.id])
	}
	for _, c := range []struct {
		name string
		conn net.Conn
		want string
	}{
		{"mail.example.org", nil, "first"},
		{"smtp.example.org", nil, "exact"},
		{"SMTP.Example.ORG", nil, "exact"},
		{"smtp.example.org.", nil, "exact"},
		{"other.example.org", nil, "wildcard"},
		{"Other.example.org.", nil, "wildcard"},
		{"a.b.example.org", nil, "first"}, // a wildcard is one label (RFC 6125 section 6.4.3)
		{"example.org", nil, "first"},
		{".example.org", nil, "wildcard"}, // no such name; no harm
		{"late.example.net", nil, "late"},
		{"unknown.example.com", nil, "first"},
		{"unknown.example.com", tcp("192.0.2.1:465"), "first"}, // a name was given: the address says nothing
		{"", nil, "first"},
		{"", tcp("192.0.2.1:465"), "v4"},
		{"", tcp("[::ffff:192.0.2.1]:465"), "v4"},
		{"", tcp("[2001:db8::1]:465"), "v6"},
		{"", tcp("192.0.2.9:465"), "first"},
		{"", at{addr: &net.UnixAddr{Name: "/run/s"}}, "first"},
		{"192.0.2.1", nil, "v4"},
		{"2001:DB8:0::1", nil, "v6"},
		{"[2001:db8::1]", nil, "v6"},
		{"192.0.2.9", tcp("192.0.2.1:465"), "v4"},
		{"192.0.2.9", nil, "first"},
		{"..", nil, "first"},
		{"\x00", nil, "first"},
	} {
		got := x.choose(&tls.ClientHelloInfo{ServerName: c.name, Conn: c.conn})
		if got != certs[c.want] {
			t.Errorf("%q: got %v, want %s", c.name, leafNames(got.Leaf), c.want)
		}
	}
}

func TestNoCertificateIsAnError(t *testing.T) {
	s := &Source{}
	for _, state := range []string{"never opened", "empty"} {
		if s.Ready() {
			t.Errorf("%s: ready", state)
		}
		if _, err := s.getCertificate(&tls.ClientHelloInfo{ServerName: "a"}); err == nil {
			t.Errorf("%s: no error", state)
		}
		s.swapIndex()
	}
}

// Of two certificates for one name each client gets the one that it knows,
// also where it gives no name: old printers do not.
func TestChoiceByKeyType(t *testing.T) {
	ca := newPKI(t)
	ecdsa := ca.files(spec{names: []string{"mail.example.org"}})
	rsa := ca.files(spec{names: []string{"mail.example.org"}, rsa: true})
	for _, order := range [][]Pair{{ecdsa, rsa}, {rsa, ecdsa}} {
		s, _ := open(t, Options{Entries: pairs(order...)})
		addr := serve(t, config(t, s, Policy{Name: "legacy"}))
		for _, c := range []struct {
			client string
			config *tls.Config
			want   string // empty: the first
		}{
			{"rsa signatures", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, "RSA"},
			{"ecdsa signatures", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, "ECDSA"},
			{"rsa key exchange", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, "RSA"},
			{"tls 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, "RSA"},
			{"both", &tls.Config{}, ""},
		} {
			for _, name := range []string{"mail.example.org", "unknown.example.org", ""} {
				client := c.config.Clone()
				client.ServerName, client.InsecureSkipVerify = name, true
				state, err := dial(addr, client)
				if err != nil {
					t.Errorf("%s, name %q: %v", c.client, name, err)
					continue
				}
				want := c.want
				if want == "" {
					want = s.index.Load().any[0].Leaf.PublicKeyAlgorithm.String()
				}
				if got := state.PeerCertificates[0].PublicKeyAlgorithm.String(); got != want {
					t.Errorf("%s, name %q: %s, want %s", c.client, name, got, want)
				}
			}
		}
	}
}

func TestChoiceAllocatesNothing(t *testing.T) {
	ca := newPKI(t)
	s := &Source{}
	x := newIndex()
	for i := range 100 {
		x.add(ca.certificate(spec{names: []string{fmt.Sprintf("mail%d.example.org", i), fmt.Sprintf("*.d%d.example.org", i)}}))
	}
	x.add(ca.certificate(spec{names: []string{"192.0.2.1"}}))
	s.index.Store(x)
	for _, name := range []string{"mail99.example.org", "a.d99.example.org", "", "192.0.2.1"} {
		hello := &tls.ClientHelloInfo{ServerName: name, Conn: tcp("192.0.2.1:465")}
		if n := testing.AllocsPerRun(100, func() { _, _ = s.getCertificate(hello) }); n != 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

func BenchmarkChoice(b *testing.B) {
	ca := newPKI(b)
	for _, size := range []int{1, 10000} {
		x := newIndex()
		cert := ca.certificate(spec{names: []string{"mail.example.org"}})
		for i := range size {
			named := *cert.Leaf
			named.DNSNames = []string{fmt.Sprintf("mail%d.example.org", i)}
			x.add(&tls.Certificate{Leaf: &named})
		}
		hello := &tls.ClientHelloInfo{ServerName: "mail0.example.org"}
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.choose(hello)
			}
		})
	}
}

// Of two curves for one name each client gets the one that it verifies: P-384
// alone is what some governments allow.
func TestChoiceByCurve(t *testing.T) {
	ca := newPKI(t)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	p256, p384 := ca.certificate(spec{names: []string{"mail.example.org"}}), ca.certificate(spec{names: []string{"mail.example.org"}, key: key})
	rsa := ca.certificate(spec{names: []string{"mail.example.org"}, rsa: true})
	x := newIndex()
	for _, c := range []*tls.Certificate{p256, p384, rsa, ca.certificate(spec{names: []string{"mail.example.org"}})} {
		x.add(c)
	}
	if n := len(x.exact["mail.example.org"]); n != 3 {
		t.Errorf("%d to choose from", n)
	}
	for _, c := range []struct {
		schemes []tls.SignatureScheme
		want    *tls.Certificate
	}{
		{[]tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}, p384},
		{[]tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, p256},
		{[]tls.SignatureScheme{tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP256AndSHA256}, p256}, // the configuration's order
		{[]tls.SignatureScheme{tls.PSSWithSHA256}, rsa},
		{[]tls.SignatureScheme{tls.Ed25519}, p256},
	} {
		for _, name := range []string{"mail.example.org", ""} {
			hello := &tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: c.schemes,
				CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}, SupportedCurves: []tls.CurveID{tls.X25519}}
			if got := x.choose(hello); got != c.want {
				t.Errorf("%v, name %q: %v with %d bits", c.schemes, name, got.Leaf.PublicKeyAlgorithm, bits(got.Leaf))
			}
		}
	}
}

// What would never be served is not ordered.
func TestTwoSizesOfRSAAreRefused(t *testing.T) {
	for _, c := range []struct {
		kinds [][]string // of an entry each
		good  bool
	}{
		{[][]string{{"p256", "p384", "rsa2048"}}, true},
		{[][]string{{"rsa4096"}, {"p384", "rsa4096"}}, true},
		{[][]string{{"p256", "rsa2048", "rsa4096"}}, false},
		{[][]string{{"rsa4096"}, {"p384", "rsa2048"}}, false},
	} {
		o := Options{Storage: disk(t.TempDir()), ACME: &ACME{Challenges: []string{"http-01"}}}
		for _, kinds := range c.kinds {
			o.Entries = append(o.Entries, Entry{Names: []string{"Mail.example.org"}, KeyTypes: kinds})
		}
		s, err := Open(t.Context(), o)
		if err == nil {
			s.Close()
		}
		if (err == nil) != c.good || err != nil && !strings.Contains(err.Error(), "keep one of them") {
			t.Errorf("%q: %v", c.kinds, err)
		}
	}
}
