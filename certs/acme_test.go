package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"smtpseal/test/pebble"
)

// An acmeRig is a Source in front of a CA, with the two ports at which the CA
// looks for it.
type acmeRig struct {
	*Source
	ca   *pebble.CA
	logs *observer.ObservedLogs
	end  func()
}

// byACME are entries for ACME.
func byACME(names ...string) []Entry { return []Entry{{Names: names}} }

// acmeOptions are for one CA, with short polls.
func acmeOptions(t testing.TB, ca *pebble.CA, challenges ...string) Options {
	if len(challenges) == 0 {
		challenges = []string{"http-01"}
	}
	return Options{
		Storage:     disk(t.TempDir()),
		StoragePoll: 100 * time.Millisecond,
		ACME: &ACME{
			Email: "postmaster@example.org", Challenges: challenges,
			Directories: []Directory{directoryOf(ca)},
			HTTPListen:  ca.HTTPAddr(), TLSALPNListen: ca.TLSAddr(),
		},
	}
}

func directoryOf(ca *pebble.CA) Directory {
	return Directory{URL: ca.DirectoryURL(), Roots: ca.RootsFile()}
}

// startACME opens and runs a Source that answers challenges.
func startACME(t testing.TB, ca *pebble.CA, o Options) *acmeRig {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	if o.Log == nil {
		o.Log = zap.New(core)
	}
	s, err := Open(t.Context(), o)
	must(t, err)
	var http01, alpn []net.Listener
	if l, err := net.Listen("tcp", ca.HTTPAddr()); err == nil { // another replica may have it
		http01 = append(http01, l)
	}
	if l, err := net.Listen("tcp", ca.TLSAddr()); err == nil {
		alpn = append(alpn, l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { s.ServeChallenges(ctx, http01, alpn); done <- struct{}{} }()
	go func() { s.Run(ctx); done <- struct{}{} }()
	r := &acmeRig{Source: s, ca: ca, logs: logs, end: func() { cancel(); <-done; <-done }}
	t.Cleanup(func() {
		if r.end != nil {
			r.end()
		}
	})
	return r
}

// patience is for machines that do much else: who waits in vain waits this long.
const patience = 2 * time.Minute

// await waits until ok, or fails.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (r *acmeRig) awaitReady(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); len(r.Problems()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not ready: %q; log: %v", r.Problems(), r.logs.All())
		}
	}
	await(t, "the index", func() bool { return r.Ready() })
}

func TestObtainsByEachChallenge(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			ca := pebble.Start(t, pebble.Options{})
			r := startACME(t, ca, func() Options {
				o := acmeOptions(t, ca, challenge)
				o.Entries = byACME("mail.example.org", "smtp.example.org", "127.0.0.1")
				return o
			}())
			r.awaitReady(t)
			addr := serve(t, config(t, r.Source, Policy{}))
			for _, name := range []string{"mail.example.org", "smtp.example.org", "127.0.0.1"} {
				state, err := dial(addr, &tls.Config{ServerName: name, RootCAs: ca.IssuerRoots()})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if state.PeerCertificates[0].PublicKeyAlgorithm != x509.ECDSA {
					t.Errorf("%s: %s", name, state.PeerCertificates[0].PublicKeyAlgorithm)
				}
			}
			if n := ca.FinalizedOrders(); n != 3 {
				t.Errorf("%d orders", n)
			}
		})
	}
}

func TestServesFromStorageWhenTheCAIsDown(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, ca)
	o.Entries = byACME("mail.example.org")
	first := startACME(t, ca, o)
	first.awaitReady(t)
	want := first.Certificates()[0].Serial
	first.end()
	first.end = nil
	must(t, ca.Down())
	s, err := Open(t.Context(), o)
	must(t, err)
	defer s.Close()
	if !s.Ready() || s.Certificates()[0].Serial != want {
		t.Errorf("%+v", s.Certificates())
	}
}

func TestRSABesideECDSA(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, ca)
	o.Entries = []Entry{{Names: []string{"mail.example.org"}, KeyTypes: []string{"p256", "rsa2048"}}}
	r := startACME(t, ca, o)
	r.awaitReady(t)
	addr := serve(t, config(t, r.Source, Policy{Name: "legacy"}))
	for suite, want := range map[uint16]x509.PublicKeyAlgorithm{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: x509.ECDSA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA:            x509.RSA,
	} {
		state, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.IssuerRoots(),
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		if err != nil || state.PeerCertificates[0].PublicKeyAlgorithm != want {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		}
	}
}

// A certificate of 30 seconds lives half a minute: renewed again and again,
// with the same key, while everybody is served.
func TestRenewsInTimeWithTheSameKey(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{Validity: 9 * time.Second})
	o := acmeOptions(t, ca)
	o.Entries = byACME("mail.example.org")
	o.ACME.IgnoreARI = true // Pebble's window is the whole life
	r := startACME(t, ca, o)
	r.awaitReady(t)
	addr := serve(t, config(t, r.Source, Policy{}))
	keys, all := map[string]bool{}, map[string]bool{}
	for end := time.Now().Add(16 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		state, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.IssuerRoots()})
		must(t, err)
		leaf := state.PeerCertificates[0]
		all[leaf.SerialNumber.String()] = true
		keys[string(leaf.RawSubjectPublicKeyInfo)] = true
	}
	if len(all) < 3 || len(keys) != 1 {
		t.Errorf("%d certificates, %d keys", len(all), len(keys))
	}
}

// certmagic asks for an address on standard input when none is configured.
func TestWithoutAnEmailNobodyIsAsked(t *testing.T) {
	in, out, err := os.Pipe()
	must(t, err)
	defer out.Close()
	old := os.Stdin
	os.Stdin = in
	defer func() { os.Stdin = old; in.Close() }()
	ca := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, ca)
	o.ACME.Email = ""
	o.Entries = byACME("mail.example.org")
	startACME(t, ca, o).awaitReady(t)
}
