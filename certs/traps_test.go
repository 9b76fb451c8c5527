package certs

import (
	"crypto/tls"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"smtpseal/test/loopback"
	"smtpseal/test/pebble"
)

// A second CA, which looks for us at the first one's ports.
func besides(t testing.TB, ca *pebble.CA) *pebble.CA {
	return pebble.Start(t, pebble.Options{HTTPPort: portOf(t, ca.HTTPAddr()), TLSPort: portOf(t, ca.TLSAddr())})
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	must(t, err)
	port, err := strconv.Atoi(text)
	must(t, err)
	return port
}

// spki is the key that TLSA 3 1 1 records are about.
func spki(s *Source) string {
	c, err := s.getCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		return ""
	}
	return string(c.Leaf.RawSubjectPublicKeyInfo)
}

// Trap: with ARI the order at the second CA names the first one's certificate,
// and is refused until the certificate has expired.
func TestFallbackAtRenewalWithARI(t *testing.T) {
	t.Parallel()
	first := pebble.Start(t, pebble.Options{})
	second := besides(t, first)
	o := acmeOptions(t, first)
	o.ACME.Directories = append(o.ACME.Directories, directoryOf(second))
	o.Entries = byACME("fallback.example.org")
	r := startACME(t, first, o)
	r.awaitReady(t)
	key := spki(r.Source)

	must(t, first.Down())
	must(t, r.Renew(t.Context(), "fallback.example.org"))
	if got, want := served(t, r.Source), second.Serials(""); !slices.Contains(want, got) {
		t.Errorf("served %s, the second CA has %v", got, want)
	}
	if count(r.logs, "another CA had to be asked") != 1 {
		t.Error("nobody heard that the first CA is down")
	}
	// Back at the first CA, though its certificate is not the newer one by its
	// date: dates have seconds.
	must(t, first.Up())
	must(t, r.Renew(t.Context(), "fallback.example.org"))
	if got, want := served(t, r.Source), first.Serials(""); got != want[len(want)-1] {
		t.Errorf("served %s, the first CA has %v", got, want)
	}
	if spki(r.Source) != key {
		t.Error("another key")
	}
	for _, order := range append(first.Orders(""), second.Orders("")...) {
		if order.Replaces != "" {
			t.Errorf("order %+v", order)
		}
	}
	again, err := Open(t.Context(), o)
	must(t, err)
	defer again.Close()
	if served(t, again) != served(t, r.Source) {
		t.Error("the next start serves the second CA's")
	}
}

// Trap: the new account may not replace the old one's certificate.
func TestAccountChangedThenRenewalWithARI(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, ca)
	o.Entries = byACME("account.example.org")
	r := startACME(t, ca, o)
	r.awaitReady(t)
	r.end()
	r.end = nil
	o.ACME.Email = "other@example.org"
	r = startACME(t, ca, o)
	must(t, r.Renew(t.Context(), "account.example.org"))
	if n := len(ca.Accounts()); n != 2 {
		t.Errorf("%d accounts", n)
	}
}

// Trap: a failure is tried again at the staging CA first, and Let's Encrypt's is
// filled in where none is named.
func TestRetriesNeverGoToAStagingCA(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, ca)
	o.ACME.Directories = []Directory{{}, directoryOf(ca)}
	o.ACME.Directories[0].URL = LetsEncrypt
	s, err := Open(t.Context(), withNames(o, "staging.example.org"))
	must(t, err)
	defer s.Close()
	for _, i := range s.acme.issuers {
		if i.TestCA != i.CA || strings.Contains(i.TestCA, "staging") {
			t.Errorf("%s: test CA %s", i.CA, i.TestCA)
		}
		if i.DisableDistributedSolvers {
			t.Errorf("%s: other replicas cannot answer its challenges", i.CA)
		}
	}
}

func withNames(o Options, names ...string) Options {
	o.Entries = byACME(names...)
	return o
}

// Trap: certmagic logs an error of the storage at the start once, and never
// tries again.
func TestStorageErrorAtStartHealsByItself(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	store := newMemory()
	store.fail(net.ErrClosed)
	o := acmeOptions(t, ca)
	o.Storage = store
	r := startACME(t, ca, withNames(o, "away.example.org"))
	await(t, "the error on the status page", func() bool { return strings.Contains(r.Problems()[0], "storage") })
	if ca.FinalizedOrders() > 0 {
		t.Error("an order whose certificate cannot be kept")
	}
	store.fail(nil)
	r.awaitReady(t)
	if c := r.Certificates()[0]; c.LastError != "" {
		t.Errorf("after the outage: %+v", c)
	}
}

// Traps: a call that always deadlocks, loops that never retry, package variables
// that are shared by all, and NextProtos that refuse every mail client.
func TestNothingOfCertmagicIsUsedThatHurts(t *testing.T) {
	t.Parallel()
	bad := []string{"Default", "DefaultACME", "ManageSync", "ManageAsync", "ManagedCertificates", "CacheManagedCertificate", "CleanStorage",
		"CacheUnmanagedCertificatePEMBytesAsReplacement", "HTTPS", "Listen", "TLS", "NewDefault", "ObtainCertAsync", "RenewCertAsync"}
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		must(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, _ := s.X.(*ast.Ident)
			if of != nil && of.Name == "tls" { // crypto/tls has names in common
				return true
			}
			if slices.Contains(bad, s.Sel.Name) || s.Sel.Name == "TLSConfig" && (of == nil || of.Name != "s") {
				t.Errorf("%s: %s", file, s.Sel.Name)
			}
			return true
		})
	}
}

// Trap: with acme-tls/1 alone in NextProtos a client that offers smtp is refused.
func TestMailListenerNeverNegotiatesACME(t *testing.T) {
	s, _ := open(t, Options{Entries: inside("mail.internal"), Storage: disk(t.TempDir())})
	addr := serve(t, config(t, s, Policy{}))
	for _, c := range []struct {
		offered []string
		ok      bool
	}{
		{nil, true},
		{[]string{"smtp"}, true},
		{[]string{"h2", "smtp"}, true},
		{[]string{"acme-tls/1", "smtp"}, true},
		{[]string{"acme-tls/1"}, false},
		{[]string{"h2"}, false},
	} {
		state, err := dial(addr, &tls.Config{ServerName: "mail.internal", RootCAs: rootPool(t, s), NextProtos: c.offered})
		if (err == nil) != c.ok || state.NegotiatedProtocol == "acme-tls/1" {
			t.Errorf("%q: %v, negotiated %q", c.offered, err, state.NegotiatedProtocol)
		}
	}
}

// Trap: a renewal that is forced elsewhere is not seen until the own one is due.
func TestForcedRenewalReachesOthersWithinThePoll(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	o := withNames(acmeOptions(t, ca), "forced.example.org")
	r := startACME(t, ca, o)
	r.awaitReady(t)
	other, err := Open(t.Context(), o)
	must(t, err)
	run(t, other)
	time.Sleep(1100 * time.Millisecond) // certificates have dates of whole seconds
	command, err := Open(t.Context(), o)
	must(t, err)
	defer command.Close()
	must(t, command.Renew(t.Context(), "forced.example.org"))
	for _, s := range []*Source{r.Source, other} {
		await(t, "the renewed one", func() bool { return served(t, s) == served(t, command) })
	}
	if n := ca.FinalizedOrders(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

// Trap: what a field leaves open is filled from package variables. This test
// runs alone, since it spoils them.
func TestPackageVariablesOfCertmagicHaveNoEffect(t *testing.T) {
	poison := pebble.Start(t, pebble.Options{})
	var asked atomic.Int64
	poison.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); next.ServeHTTP(w, r) })
	})
	free, err := loopback.Free("127.0.0.1")
	must(t, err)
	acmeBefore, before := certmagic.DefaultACME, certmagic.Default
	defer func() { certmagic.DefaultACME, certmagic.Default = acmeBefore, before }()
	certmagic.DefaultACME = certmagic.ACMEIssuer{
		CA: poison.DirectoryURL(), TestCA: poison.DirectoryURL(), Email: "poison@example.org", AccountKeyPEM: "poison",
		ExternalAccount: &acme.EAB{KeyID: "poison", MACKey: "poison"}, NotBefore: 24 * time.Hour, NotAfter: -24 * time.Hour,
		DisableHTTPChallenge: true, DisableTLSALPNChallenge: true, ListenHost: "192.0.2.1", AltHTTPPort: portOf(t, free), AltTLSALPNPort: 1,
		DNS01Solver: &certmagic.DNS01Solver{}, TrustedRoots: poison.Roots(), CertObtainTimeout: 1, Logger: zap.NewNop(),
	}
	certmagic.Default = certmagic.Config{
		RenewalWindowRatio: 0.999, OnDemand: &certmagic.OnDemandConfig{}, MustStaple: true, DefaultServerName: "poison", FallbackServerName: "poison",
		Storage: disk(filepath.Join(t.TempDir(), "poison")), KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.ED25519},
	}
	ca := pebble.Start(t, pebble.Options{})
	o := withNames(acmeOptions(t, ca), "poison.example.org")
	o.ACME.Email = ""
	r := startACME(t, ca, o)
	r.awaitReady(t)
	must(t, r.Renew(t.Context(), "poison.example.org"))
	if n := asked.Load(); n != 0 {
		t.Errorf("the poison was asked %d times", n)
	}
	for _, a := range ca.Accounts() {
		if len(a.Contact) > 0 {
			t.Errorf("account of %q", a.Contact)
		}
	}
	if _, err := os.Stat(certmagic.Default.Storage.(*certmagic.FileStorage).Path); err == nil {
		t.Error("the poisoned storage was used")
	}
}

// An unknown profile fails, with the list of those that there are.
func TestUnknownProfileFailsWithTheList(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{Profiles: map[string]time.Duration{"classic": 0, "brief": time.Hour}})
	o := withNames(acmeOptions(t, ca), "profile.example.org")
	o.ACME.Directories[0].Profile = "nonsense"
	r := startACME(t, ca, o)
	await(t, "the failure", func() bool { return r.Certificates()[0].Failures > 0 })
	if text := r.Certificates()[0].LastError; !strings.Contains(text, "classic") || !strings.Contains(text, "brief") {
		t.Errorf("%q", text)
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	s, err := Open(t.Context(), withNames(acmeOptions(t, ca), "close.example.org"))
	must(t, err)
	s.Close()
	s.Close()
}
