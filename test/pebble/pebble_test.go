package pebble_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"smtpseal/test/pebble"
)

func TestIssuesByHTTP01(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{Validity: 40 * time.Second})
	c := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
	cert := c.mustObtain(t, "mx.example.org")

	if life := cert.NotAfter.Sub(cert.NotBefore); life > 40*time.Second || life < 38*time.Second {
		t.Errorf("valid for %s", life)
	}
	order := ca.Orders("mx.example.org")[0]
	if order.Status != "valid" || !order.Certificate.Equal(cert) || order.Account != ca.Accounts()[0].ID {
		t.Errorf("order %+v", order)
	}
	if got := ca.Serials(""); len(got) != 1 || got[0] != hex.EncodeToString(cert.SerialNumber.Bytes()) {
		t.Errorf("serials %q", got)
	}
	if ca.FinalizedOrders() != 1 || len(ca.Orders("other.example.org")) != 0 {
		t.Errorf("%d finalized orders, of another name %v", ca.FinalizedOrders(), ca.Orders("other.example.org"))
	}
	if a := ca.Accounts(); len(a) != 1 || !a[0].Valid || a[0].EAB || a[0].Contact[0] != "mailto:a@example.org" {
		t.Errorf("accounts %+v", a)
	}
}

func TestIssuedCertificateLeadsToIssuerRoots(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	c := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
	if err := c.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	chains, err := c.ObtainCertificateForSANs(t.Context(), c.account, newKey(t), []string{"mx.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, between := chains[0].ChainPEM, x509.NewCertPool()
	between.AppendCertsFromPEM(leaf)
	cert := ca.Certificates("mx.example.org")[0]
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "mx.example.org", Roots: ca.IssuerRoots(), Intermediates: between}); err != nil {
		t.Error(err)
	}
	if file, err := os.ReadFile(ca.IssuerFile()); err != nil || !bytes.Equal(file, ca.IssuerPEM()) {
		t.Errorf("issuer file: %v", err)
	}
}

func TestIssuesForAddressesByHTTP01(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	cert := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr())).mustObtain(t, "127.0.0.1")
	if len(cert.IPAddresses) != 1 || len(ca.Orders("127.0.0.1")) != 1 {
		t.Errorf("certificate for %v, orders %v", cert.IPAddresses, ca.Orders(""))
	}
}

func TestIssuesByTLSALPN01(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	newClient(t, ca, serveTLSALPN01(t, ca.TLSAddr())).mustObtain(t, "mx.example.org")
}

func TestIssuesByDNS01(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	same := func(name string) string { return name }
	c := newClient(t, ca, map[string]acmez.Solver{acme.ChallengeTypeDNS01: dnsSolver{ca.DNS, same}})
	c.mustObtain(t, "example.org", "*.example.org")
	if left := ca.DNS.TXT("_acme-challenge.example.org"); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}

func TestIssuesByDNS01ThroughCNAME(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	ca.DNS.SetCNAME("_acme-challenge.mx.example.org", "mx.validation.example.net")
	elsewhere := func(string) string { return "mx.validation.example.net" }
	c := newClient(t, ca, map[string]acmez.Solver{acme.ChallengeTypeDNS01: dnsSolver{ca.DNS, elsewhere}})
	c.mustObtain(t, "mx.example.org")
}

func TestRefusesWhatItCannotValidate(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{}) // nobody listens at HTTPAddr
	c := newClient(t, ca, map[string]acmez.Solver{acme.ChallengeTypeHTTP01: &httpSolver{}})
	if _, err := c.obtain(t, "mx.example.org"); err == nil {
		t.Fatal("a certificate without validation")
	}
	if ca.FinalizedOrders() != 0 {
		t.Errorf("%d finalized orders", ca.FinalizedOrders())
	}
	orders := ca.Orders("mx.example.org")
	if len(orders) == 0 || orders[0].Status != "invalid" || !strings.Contains(orders[0].Error, "refused") {
		t.Errorf("orders %+v", orders)
	}
}

func TestEveryOrderIsValidatedAnew(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	c := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
	for range 4 { // Pebble's default would reuse every second authorization
		c.mustObtain(t, "mx.example.org")
	}
	c.ChallengeSolvers = map[string]acmez.Solver{acme.ChallengeTypeHTTP01: &httpSolver{}}
	for range 4 {
		if _, err := c.obtain(t, "mx.example.org"); err == nil {
			t.Fatal("a certificate by an old validation")
		}
	}
	if ca.FinalizedOrders() != 4 {
		t.Errorf("%d finalized orders", ca.FinalizedOrders())
	}
}

func TestExternalAccountBinding(t *testing.T) {
	key := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	ca := pebble.Start(t, pebble.Options{EAB: map[string]string{"kid-1": key}})
	solvers := serveHTTP01(t, ca.HTTPAddr())

	if _, err := newClient(t, ca, solvers).obtain(t, "mx.example.org"); err == nil {
		t.Fatal("an account without a binding")
	}
	c := newClient(t, ca, solvers)
	if err := c.account.SetExternalAccountBinding(t.Context(), c.Client.Client, acme.EAB{KeyID: "kid-1", MACKey: key}); err != nil {
		t.Fatal(err)
	}
	c.mustObtain(t, "mx.example.org")
	if a := ca.Accounts(); len(a) != 1 || !a[0].EAB {
		t.Errorf("accounts %+v", a)
	}
}

func TestProfiles(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{Profiles: map[string]time.Duration{"classic": time.Hour, "shortlived": time.Minute}})
	c := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
	if err := c.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, life := range map[string]time.Duration{"classic": time.Hour, "shortlived": time.Minute} {
		key := newKey(t)
		csr, err := acmez.NewCSR(key, []string{name + ".example.org"})
		if err != nil {
			t.Fatal(err)
		}
		p, err := acmez.OrderParametersFromCSR(c.account, csr)
		if err != nil {
			t.Fatal(err)
		}
		p.Profile = name
		if _, err := c.ObtainCertificate(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		order := ca.Orders(name + ".example.org")[0]
		got := order.Certificate.NotAfter.Sub(order.Certificate.NotBefore)
		if order.Profile != name || got > life || got < life-2*time.Second {
			t.Errorf("profile %s: %s, valid for %s", name, order.Profile, got)
		}
	}
}

func TestTwoCAsDoNotTrustEachOther(t *testing.T) {
	one, other := pebble.Start(t, pebble.Options{}), pebble.Start(t, pebble.Options{})
	c := newClient(t, one, nil)
	c.Directory = other.DirectoryURL()
	_, err := c.GetDirectory(t.Context())
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("directory of the other: %v", err)
	}
	if bytes.Equal(one.IssuerPEM(), other.IssuerPEM()) {
		t.Error("the same issuer")
	}
}

// One goroutine a CA stays: Pebble's queue of validations has no end.
func TestCloseEndsEverythingElse(t *testing.T) {
	ca, err := pebble.Open(pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{ca.RootsFile(), ca.IssuerFile()}
	c := newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
	c.mustObtain(t, "mx.example.org")
	for range 2 {
		if err := ca.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ca.Up(); err == nil {
		t.Error("a closed CA came up again")
	}
	for _, file := range files {
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", file, err)
		}
	}
	c.HTTPClient.Transport.(*http.Transport).CloseIdleConnections()
	left := stacks()
	for end := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(end); left = stacks() {
		time.Sleep(20 * time.Millisecond)
	}
	if len(left) > 0 {
		t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
}

// stacks returns the goroutines that a CA should have ended.
func stacks() []string {
	var all bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&all, 2)
	return slices.DeleteFunc(strings.Split(all.String(), "\n\n"), func(s string) bool {
		ours := strings.Contains(s, "pebble.(*endpoint)") || strings.Contains(s, "miekg/dns") ||
			strings.Contains(s, "letsencrypt/pebble") || strings.Contains(s, "pebble.(*CA)")
		return !ours || strings.Contains(s, "va.VAImpl.processTasks")
	})
}
