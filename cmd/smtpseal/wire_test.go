package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"smtpseal/certs"
	"smtpseal/config"
	"smtpseal/proxy"
	"smtpseal/proxy/backend"
)

func TestHostname(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		configured string
		certified  []string
		want       string
	}{
		{"mail.example.org", []string{"other.example.org"}, "mail.example.org"},
		{"", []string{"first.example.org", "second.example.org"}, "first.example.org"},
		{"", []string{"*.example.org", "mail.example.org"}, "mail.example.org"},
		{"", []string{"192.0.2.1", "2001:db8::1", "mail.example.org"}, "mail.example.org"},
		{"", []string{"*.example.org"}, machine},
		{"", nil, machine},
	} {
		if got := hostname(c.configured, c.certified); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.configured, c.certified, got, c.want)
		}
	}
}

// What serves those who ask for no name is the first certificate of the file,
// whichever kind it is.
func TestCertificatesKeepTheOrderOfTheFile(t *testing.T) {
	o, err := certOptions(&config.Config{
		Certificates: []config.Certificate{
			{Names: []string{"a", "b"}, Internal: true},
			{CertFile: "c", KeyFile: "k"},
			{Names: []string{"d"}, Internal: true},
		},
	}, nil, nil)
	want := []certs.Entry{
		{Names: []string{"a", "b"}, Internal: true},
		{Pair: certs.Pair{CertFile: "c", KeyFile: "k"}},
		{Names: []string{"d"}, Internal: true},
	}
	if err != nil || !reflect.DeepEqual(o.Entries, want) {
		t.Errorf("got %+v, %v, want %+v", o.Entries, err, want)
	}
}

// A listener's own policy is taken whole: explicit settings for all listeners
// would weaken a modern one or break a legacy one.
func TestAListenersPolicyReplacesTheExplicitSettings(t *testing.T) {
	all := config.TLS{Policy: "intermediate", MinVersion: "1.3", CipherSuites: []string{"x"}, Curves: []string{"y"}, SessionTickets: "off"}
	l := config.Listener{ClientAuth: "require", ClientCAFile: "ca.pem"}
	want := certs.Policy{Name: "intermediate", MinVersion: "1.3", CipherSuites: []string{"x"}, Curves: []string{"y"},
		SessionTickets: "off", ClientAuth: "require", ClientCAFile: "ca.pem"}
	if got := policy(all, l); !reflect.DeepEqual(got, want) {
		t.Errorf("without: %+v", got)
	}
	l.TLSPolicy = "legacy"
	want = certs.Policy{Name: "legacy", SessionTickets: "off", ClientAuth: "require", ClientCAFile: "ca.pem"}
	if got := policy(all, l); !reflect.DeepEqual(got, want) {
		t.Errorf("with: %+v", got)
	}
}

// Every word that config takes must have a meaning here: a missing one would
// become the zero value in silence, which is the wrong mode.
func TestEveryWordOfTheConfigurationIsKnown(t *testing.T) {
	for word, want := range map[string]proxy.Mode{"implicit": proxy.Implicit, "starttls": proxy.StartTLS, "starttls-optional": proxy.Opportunistic} {
		c := parse(t, "listeners: [{listen: ':2525', tls: "+word+"}]\nbackends: {b: {preset: plain, servers: ['127.0.0.1:25']}}\n"+internalIn("/s")+"\n")
		if got, ok := modes[c.Listeners[0].Mode]; !ok || got != want {
			t.Errorf("tls: %s is %v, %v", word, got, ok)
		}
	}
	c := parse(t, "listeners: [{listen: ':2525', tls: implicit, backend: a}]\nbackends:\n"+
		"  a: {servers: ['127.0.0.1:25', 'unix:/run/mta'], proxy_protocol: v2, proxy_tlvs: [ssl, authority, unique_id, alpn, cn], hide_extensions: [X-A]}\n"+
		"  b: {servers: ['127.0.0.1:26'], proxy_protocol: v1}\n"+
		"  c: {servers: ['127.0.0.1:27'], proxy_protocol: off}\n"+internalIn("/s")+"\n")
	all := backends(c)
	want := map[string]*backend.Backend{
		"a": {Name: "a", Proxy: backend.V2, Hide: []string{"X-A"},
			Servers: []backend.Server{{Network: "tcp", Addr: "127.0.0.1:25"}, {Network: "unix", Addr: "/run/mta"}},
			TLVs:    backend.TLVSSL | backend.TLVAuthority | backend.TLVUniqueID | backend.TLVALPN | backend.TLVCN},
		"b": {Name: "b", Proxy: backend.V1, Servers: []backend.Server{{Network: "tcp", Addr: "127.0.0.1:26"}}},
		"c": {Name: "c", Proxy: backend.Off, Servers: []backend.Server{{Network: "tcp", Addr: "127.0.0.1:27"}}},
	}
	for name, b := range want {
		got := all[name]
		if name != "a" {
			got.TLVs = 0 // without v2 they mean nothing
		}
		if got.Health != (backend.Health{Interval: 30 * time.Second, Timeout: 5 * time.Second, Fall: 3, Rise: 2}) {
			t.Errorf("backend %s: %+v", name, got.Health)
		}
		got.Health = backend.Health{}
		if len(got.Hide) == 0 {
			got.Hide = nil
		}
		if !reflect.DeepEqual(got, b) {
			t.Errorf("backend %s: %+v, want %+v", name, got, b)
		}
	}
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each field has a partner of the same kind, so that only their values tell
// whether two were exchanged.
func TestTimeoutsAndLimitsAreNotMixedUp(t *testing.T) {
	got := timeouts(config.Timeouts{Cleartext: 1, Handshake: 2, Dial: 3, Greeting: 4, Command: 5, Body: 6, Reply: 7, Session: 8, Shutdown: 9})
	if want := (proxy.Timeouts{Cleartext: 1, Handshake: 2, Dial: 3, Greeting: 4, Command: 5, Body: 6, Reply: 7, Session: 8}); got != want {
		t.Errorf("%+v", got)
	}
	if got, want := limits(config.Limits{MaxSessions: 1, MaxSessionsPerClient: 2, MaxHandshakes: 3}), (proxy.Limits{Sessions: 1, PerClient: 2, Handshakes: 3}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestWithoutACertificateThereAreNoTLSSettings(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "mail.example.org")
	source, err := certs.Open(t.Context(), certs.Options{Entries: []certs.Entry{{Pair: certs.Pair{CertFile: cert, KeyFile: key}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	settings := new(tls.Config)
	if whenReady(source, settings, nil)() != settings {
		t.Error("ready, but no settings")
	}
	if whenReady(new(certs.Source), settings, nil)() != nil {
		t.Error("settings, but nothing to serve")
	}
}

// config and certs, which must not import each other, each know the names of
// suites, curves and versions: what check calls good, run must take.
func TestTLSNamesAreKnownToBoth(t *testing.T) {
	var lines []string
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		lines = append(lines, "cipher_suites: ["+suite.Name+"]")
	}
	for _, curve := range []string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384", "P-521", "P-224"} {
		lines = append(lines, "curves: ["+curve+"]")
	}
	for _, version := range []string{"1.0", "1.1", "1.2", "1.3", "1.4"} {
		lines = append(lines, "min_version: "+version)
	}
	good := 0
	var source certs.Source // policies need no certificate
	for _, line := range lines {
		c, err := config.Parse("test", []byte(fmt.Sprintf(demoSettings, ":465", ":587", "127.0.0.1:25", "/s", "off")+"tls: {"+line+"}\n"))
		if err != nil {
			continue
		}
		good++
		if _, err := source.TLSConfig(policy(c.TLS, c.Listeners[0])); err != nil {
			t.Errorf("%s is good to config, but: %v", line, err)
		}
	}
	if want := 4 + 7 + 6; good < want {
		t.Errorf("%d are good, want at least %d", good, want)
	}
}
