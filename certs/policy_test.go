package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// source has an ECDSA and an RSA certificate for one name, so that every
// suite can be agreed on.
func source(t testing.TB) (*Source, *pki) {
	t.Helper()
	ca := newPKI(t)
	s, _ := open(t, Options{Entries: pairs(
		ca.files(spec{names: []string{"mail.example.org"}}),
		ca.files(spec{names: []string{"mail.example.org"}, rsa: true}),
	)})
	return s, ca
}

func TestPolicyVersions(t *testing.T) {
	s, ca := source(t)
	all := []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}
	for _, c := range []struct {
		policy Policy
		lowest uint16
	}{
		{Policy{}, tls.VersionTLS12},
		{Policy{Name: "modern"}, tls.VersionTLS13},
		{Policy{Name: "intermediate"}, tls.VersionTLS12},
		{Policy{Name: "legacy"}, tls.VersionTLS10},
		{Policy{Name: "modern", MinVersion: "1.2"}, tls.VersionTLS12},
		{Policy{Name: "intermediate", MinVersion: "1.3"}, tls.VersionTLS13},
		{Policy{Name: "intermediate", MinVersion: "1.0"}, tls.VersionTLS10},
		{Policy{MinVersion: "1.1"}, tls.VersionTLS11},
		{Policy{Name: "legacy", MinVersion: "1.2"}, tls.VersionTLS12},
	} {
		addr := serve(t, config(t, s, c.policy))
		for _, version := range all {
			_, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), MinVersion: version, MaxVersion: version})
			if (err == nil) != (version >= c.lowest) {
				t.Errorf("%+v: %s: %v", c.policy, tls.VersionName(version), err)
			}
		}
	}
}

// Which suites of TLS 1.2 a policy agrees to, each tried alone.
func TestPolicySuites(t *testing.T) {
	s, ca := source(t)
	des := "TLS_RSA_WITH_3DES_EDE_CBC_SHA"
	for _, c := range []struct {
		policy Policy
		agrees func(name string) bool
	}{
		{Policy{}, aead},
		{Policy{Name: "intermediate"}, aead},
		{Policy{Name: "modern", MinVersion: "1.2"}, aead},
		{Policy{Name: "legacy"}, legacy},
		{Policy{MinVersion: "1.1"}, legacy},
		{Policy{CipherSuites: []string{des, "tls_ecdhe_rsa_with_aes_128_gcm_sha256"}}, func(name string) bool {
			return name == des || name == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
		}},
	} {
		addr := serve(t, config(t, s, c.policy))
		for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
				continue
			}
			_, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(),
				MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
			if (err == nil) != c.agrees(suite.Name) {
				t.Errorf("%+v: %s: %v", c.policy, suite.Name, err)
			}
		}
	}
}

func aead(name string) bool {
	return strings.HasPrefix(name, "TLS_ECDHE_") && !strings.Contains(name, "_CBC_") && !strings.Contains(name, "_RC4_")
}

func legacy(name string) bool {
	return !strings.Contains(name, "_RC4_") && !strings.Contains(name, "_3DES_") && !strings.HasSuffix(name, "_CBC_SHA256")
}

func TestPolicyCurves(t *testing.T) {
	s, ca := source(t)
	ids := []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	dialWith := func(addr string, id tls.CurveID) error {
		state, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), CurvePreferences: []tls.CurveID{id}})
		if err == nil && state.CurveID != id {
			err = fmt.Errorf("agreed on %v", state.CurveID)
		}
		return err
	}
	anything := serve(t, config(t, s, Policy{}))
	for i, name := range []string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384", "P-521"} {
		if err := dialWith(anything, ids[i]); err != nil {
			t.Errorf("default, %s: %v", name, err)
		}
		addr := serve(t, config(t, s, Policy{Curves: []string{name}}))
		for j, id := range ids {
			if err := dialWith(addr, id); (err == nil) != (i == j) {
				t.Errorf("curves [%s], client %v: %v", name, id, err)
			}
		}
	}
	state, err := dial(anything, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool()})
	if err != nil || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("not post-quantum by default: %v, %v", state.CurveID, err)
	}
}

// Cross-protocol attacks steer a browser here (ALPACA); mail clients offer no
// protocol at all.
func TestALPN(t *testing.T) {
	s, ca := source(t)
	for _, policy := range []string{"modern", "intermediate", "legacy"} {
		addr := serve(t, config(t, s, Policy{Name: policy}))
		for _, c := range []struct {
			offers []string
			served bool
		}{
			{nil, true},
			{[]string{"smtp"}, true},
			{[]string{"h2", "smtp"}, true},
			{[]string{"http/1.1"}, false},
			{[]string{"h2"}, false},
			{[]string{"h2", "http/1.1"}, false},
			{[]string{"acme-tls/1"}, false},
			{[]string{"SMTP"}, false},
			{[]string{"imap"}, false},
		} {
			for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if policy == "modern" && max != tls.VersionTLS13 {
					continue
				}
				state, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), NextProtos: c.offers, MaxVersion: max})
				if !c.served && !strings.Contains(fmt.Sprint(err), "no application protocol") { // RFC 7301 section 3.2
					t.Errorf("%s, %q: %v", policy, c.offers, err)
				}
				if c.served && (err != nil || (len(c.offers) > 0) != (state.NegotiatedProtocol == "smtp")) {
					t.Errorf("%s, %q: %q, %v", policy, c.offers, state.NegotiatedProtocol, err)
				}
			}
		}
	}
}

func TestPolicyMistakesListTheGoodNames(t *testing.T) {
	s, ca := source(t)
	dir := t.TempDir()
	empty, broken := filepath.Join(dir, "empty.pem"), filepath.Join(dir, "broken.pem")
	_, key := ca.issue(spec{})
	writeFile(t, empty, key)
	writeFile(t, broken, append(slices.Clone(ca.pem), encode("CERTIFICATE", []byte("x"))...))
	for _, c := range []struct {
		policy Policy
		want   []string
	}{
		{Policy{Name: "secure"}, []string{"policy", `"secure"`, "modern, intermediate, legacy"}},
		{Policy{MinVersion: "1.4"}, []string{"min_version", `"1.4"`, "1.0, 1.1, 1.2, 1.3"}},
		{Policy{MinVersion: "SSLv3"}, []string{"min_version"}},
		{Policy{CipherSuites: []string{"AES128-SHA"}}, []string{"cipher_suites", `"AES128-SHA"`, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"}},
		{Policy{CipherSuites: []string{"TLS_RSA_WITH_RC4_128_SHA"}}, []string{"cipher_suites", "RC4"}},
		{Policy{Name: "legacy", CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA"}}, []string{"cipher_suites", "RC4"}},
		{Policy{CipherSuites: []string{"TLS_AES_128_GCM_SHA256"}}, []string{"cipher_suites"}},
		{Policy{Name: "modern", CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}, []string{"no effect", "min_version 1.2"}},
		{Policy{Curves: []string{"P-224"}}, []string{"curves", `"P-224"`, "X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521"}},
		{Policy{SessionTickets: "shared"}, []string{"session_tickets shared", "no name"}},
		{Policy{SessionTickets: "shared", Listener: "smtp"}, []string{"session_tickets shared", "no storage", "write per_process"}},
		{Policy{SessionTickets: "always"}, []string{"session_tickets", "per_process, shared, off"}},
		{Policy{ClientAuth: "always"}, []string{"client_auth", "off, request, require"}},
		{Policy{ClientAuth: "require"}, []string{"client_ca_file"}},
		{Policy{ClientAuth: "require", ClientCAFile: dir + "/gone.pem"}, []string{"client_ca_file", "gone.pem", "check the path"}},
		{Policy{ClientAuth: "request", ClientCAFile: empty}, []string{empty, "no certificate"}},
		{Policy{ClientAuth: "request", ClientCAFile: broken}, []string{broken, "certificate 2"}},
	} {
		_, err := s.TLSConfig(c.policy)
		if err == nil {
			t.Errorf("%+v: no error", c.policy)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %q does not say %q", c.policy, err, want)
			}
		}
		if list := err.Error(); strings.Contains(list[strings.Index(list, ": use ")+1:], "_RC4_") {
			t.Errorf("RC4 is offered: %q", err)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	s, ca := source(t)
	clients, strangers := newPKI(t), newPKI(t)
	caFile := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, caFile, append([]byte("a comment\n"), clients.pem...))
	for _, c := range []struct {
		name             string
		cert             *tls.Certificate
		request, require bool // is it served
	}{
		{"none", nil, true, false},
		{"good", clients.certificate(spec{cn: "printer", client: true}), true, true},
		{"of a stranger", strangers.certificate(spec{cn: "printer", client: true}), false, false},
		{"expired", clients.certificate(spec{cn: "printer", client: true, from: -10 * day, to: -day}), false, false},
		{"not valid yet", clients.certificate(spec{cn: "printer", client: true, from: day}), false, false},
		{"of a server", clients.certificate(spec{cn: "printer"}), false, false},
	} {
		for mode, served := range map[string]bool{"off": true, "request": c.request, "require": c.require} {
			for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				addr := serve(t, config(t, s, Policy{ClientAuth: mode, ClientCAFile: caFile}))
				client := &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), MaxVersion: max}
				// By this callback a client sends a certificate also to a
				// server whose list of CAs it does not match.
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if c.cert == nil {
						return &tls.Certificate{}, nil
					}
					return c.cert, nil
				}
				if _, err := dial(addr, client); (err == nil) != served {
					t.Errorf("client_auth %s, certificate %s, %s: %v", mode, c.name, tls.VersionName(max), err)
				}
			}
		}
	}
}

// CVE-2025-23419 was this: a session begun where no client certificate is
// wanted, resumed where one is required.
func TestTicketOfOneListenerOpensNoOther(t *testing.T) {
	s, ca := source(t)
	clients := newPKI(t)
	caFile := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, caFile, clients.pem)
	open := serve(t, config(t, s, Policy{}))
	twin := serve(t, config(t, s, Policy{}))
	closed := serve(t, config(t, s, Policy{ClientAuth: "require", ClientCAFile: caFile}))
	asking := serve(t, config(t, s, Policy{ClientAuth: "request", ClientCAFile: caFile}))
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(max), func(t *testing.T) {
			client := func() *tls.Config {
				return &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), MaxVersion: max,
					ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			}
			resumes := func(c *tls.Config, addr string) bool {
				t.Helper()
				state, err := dial(addr, c)
				must(t, err)
				return state.DidResume
			}
			c := client()
			if resumes(c, open) || !resumes(c, open) || !resumes(c, open) {
				t.Fatal("tickets do not work at all")
			}
			if _, err := dial(closed, c); err == nil {
				t.Error("a ticket opened a listener that requires a certificate")
			}
			for name, addr := range map[string]string{"twin": twin, "asking": asking} {
				c := client()
				resumes(c, open)
				if resumes(c, addr) {
					t.Errorf("%s took another listener's ticket", name)
				}
			}
			// With a certificate, a session resumes where it began, and only there.
			c = client()
			c.Certificates = []tls.Certificate{*clients.certificate(spec{cn: "printer", client: true})}
			if resumes(c, closed) || !resumes(c, closed) {
				t.Error("no resumption with a certificate")
			}
			if resumes(c, asking) {
				t.Error("asking took the ticket of closed")
			}
		})
	}
}

func TestSessionTicketsOff(t *testing.T) {
	s, ca := source(t)
	addr := serve(t, config(t, s, Policy{SessionTickets: "off"}))
	c := &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for range 3 {
		if state, err := dial(addr, c); err != nil || state.DidResume {
			t.Errorf("resumed %v, %v", state.DidResume, err)
		}
	}
}

// A session may be resumed after its certificate was replaced.
func TestTicketsOutliveAReplacement(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"mail.example.org"}})
	s, _ := open(t, Options{Entries: pairs(pair)})
	addr := serve(t, config(t, s, Policy{}))
	c := &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	_, err := dial(addr, c)
	must(t, err)
	ca.write(pair, spec{names: []string{"mail.example.org"}})
	s.Reload()
	if state, err := dial(addr, c); err != nil || !state.DidResume {
		t.Errorf("resumed %v, %v", state.DidResume, err)
	}
}

// Nothing that is no ClientHello may do more than end its own handshake.
func TestJunkInPlaceOfAHello(t *testing.T) {
	s, ca := source(t)
	addr := serve(t, config(t, s, Policy{}))
	for _, junk := range []string{"GET / HTTP/1.1\r\n\r\n", "EHLO a\r\n", "\x16\x03\x01\xff\xff", strings.Repeat("\x00", 4096), "\x80\x2e\x01\x03\x01"} {
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		_, err = io.WriteString(conn, junk)
		must(t, err)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: not closed", junk)
		}
		conn.Close()
	}
	if _, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool()}); err != nil {
		t.Error(err)
	}
}
