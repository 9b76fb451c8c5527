package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// A process that is told to end in the middle of an order ends at once, and
// leaves no lock behind that the next one would have to wait for.
func TestTermInTheMiddleOfAnOrder(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	ca.Slow(time.Minute)
	s := site{CA: ca, Storage: fmt.Sprintf("type: file, path: %q", filepath.Join(t.TempDir(), "storage"))}
	first := s.run(t)
	first.wait("the order to begin", func() bool { return first.find("obtaining certificate", nil) != nil })
	began := time.Now()
	first.terminate()
	<-first.read
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ended %v behind TERM", took)
	}
	if e := first.find(notObtained, nil); e != nil {
		t.Errorf("being stopped is no failure: %v", e)
	}
	ca.Heal()
	began = time.Now()
	second := s.run(t)
	second.obtained(hostname)
	if took := time.Since(began); took > 10*time.Second { // a lock would be in the way for 30 s
		t.Errorf("obtained within %v", took)
	}
}

// A client that cannot take ECDSA, as old ones cannot, gets the RSA certificate
// that is beside it.
func TestRSABesideECDSA(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	s := site{CA: ca, KeyTypes: "p256, rsa2048"}
	path, addrs := s.file(t)
	p := s.runFile(t, path, addrs)
	p.wait("both certificates", func() bool { return len(p.all("certificate obtained")) == 2 })
	for _, listener := range []string{submissions, submission} {
		for suite, want := range map[uint16]x509.PublicKeyAlgorithm{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: x509.RSA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: x509.ECDSA,
		} {
			config := p.tls()
			config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{suite}
			conn, err := p.shake(listener, config)
			if err != nil {
				t.Fatalf("%s, %s: %v", listener, tls.CipherSuiteName(suite), err)
			}
			if got := conn.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm; got != want {
				t.Errorf("%s, %s: a certificate with a key of %v", listener, tls.CipherSuiteName(suite), got)
			}
			conn.Close()
		}
	}
	if code, all := listJSON(t, path); code != 0 || len(all) != 2 || all[0].KeyType != "p256" || all[1].KeyType != "rsa2048" {
		t.Errorf("exit %d, listed %+v", code, all)
	}
}

// While the first CA is ill the second one issues, at the first time and at a
// renewal. What one of them has issued is served when both are away.
func TestASecondCATakesOver(t *testing.T) {
	t.Parallel()
	one := pebble.Start(t, pebble.Options{})
	two := pebble.Start(t, pebble.Options{EAB: map[string]string{"kid-1": hmacKey}})
	front := newBalance(t, two.HTTPAddr(), one.HTTPAddr()) // each looks at a port of its own
	s := site{CA: one, Secrets: []string{hmacKey}, Storage: fmt.Sprintf("type: file, path: %q", filepath.Join(t.TempDir(), "storage")),
		ACME: fmt.Sprintf("fallback: [{directory: %q, trusted_roots: %q, eab: {key_id: kid-1, hmac_key: %s}}]", two.DirectoryURL(), two.RootsFile(), hmacKey)}
	path, addrs := s.file(t)
	one.Answer5xx()
	p := s.runFile(t, path, addrs)
	p.obtained(hostname)
	p.rootsOf(two).mustServe(t, two, 1)
	for n, c := range []struct {
		ill, well *pebble.CA
		issued    int
	}{{two, one, 1}, {one, two, 2}, {two, one, 2}} {
		c.well.Heal()
		c.ill.Answer5xx()
		if o := command(t, s.Secrets, "certs", "renew", hostname, "-c", path); o.code != 0 {
			t.Fatalf("renewal %d: exit %d\n%s", n, o.code, o.stderr)
		}
		p.hup() // or it looks within half a minute
		p.rootsOf(c.well).mustServe(t, c.well, c.issued)
	}
	if front.served[0].Load() == 0 {
		t.Error("the second CA has never asked")
	}
	one.Answer5xx()
	two.Answer5xx()
	p.terminate()
	<-p.read
	s.runFile(t, path, addrs).rootsOf(one).mustServe(t, one, 2)
}

// rootsOf makes clients trust a CA, and no other.
func (p *process) rootsOf(ca *pebble.CA) *process {
	p.roots = ca.IssuerRoots()
	return p
}

// mustServe waits for the nth certificate of a CA to be served by both doors.
func (p *process) mustServe(t *testing.T, ca *pebble.CA, n int) {
	t.Helper()
	issued := ca.Serials(hostname)
	if len(issued) != n {
		t.Fatalf("the CA has issued %v, want %d", issued, n)
	}
	for _, listener := range []string{submissions, submission} {
		until(t, "the newest certificate by "+listener, 10*time.Second, func() bool {
			leaf, err := p.leaf(listener, hostname)
			return err == nil && serial(leaf) == issued[n-1]
		})
	}
}
