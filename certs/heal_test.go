package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"smtpseal/test/pebble"
)

// stash puts a pair where a CA's certificates with P-256 keys lie.
func stash(t testing.TB, o Options, directory, name string, cert, key []byte) {
	t.Helper()
	issuer := (&certmagic.ACMEIssuer{CA: directory}).IssuerKey()
	must(t, o.Storage.Store(t.Context(), siteCert(issuer, name), cert))
	must(t, o.Storage.Store(t.Context(), siteKey(issuer, name), key))
	must(t, o.Storage.Store(t.Context(), certmagic.StorageKeys.SiteMeta(issuer, name), []byte(`{"sans":["`+name+`"]}`)))
}

// What a crash, a full disk or a person leaves in the storage is mended by one
// order, at the start and in a process that runs, and a good key stays.
func TestBrokenPairsHealByOneOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		spoil      func([]byte) []byte
		keyStays   bool
		orders     int // of a start
	}{
		{"half a key", ".key", func(b []byte) []byte { return b[:len(b)/2] }, false, 1},
		{"empty key", ".key", func([]byte) []byte { return nil }, false, 1},
		{"another key", ".key", func([]byte) []byte {
			key, _ := certmagic.PEMEncodePrivateKey(newKey(t, false))
			return key
		}, false, 1},
		{"no key", ".key", nil, false, 1},
		{"half a certificate", ".crt", func(b []byte) []byte { return b[:len(b)/2] }, true, 1},
		{"empty certificate", ".crt", func([]byte) []byte { return nil }, true, 1},
		{"no certificate", ".crt", nil, true, 1},
		{"half the metadata", ".json", func(b []byte) []byte { return b[:len(b)/2] }, true, 0},
		{"other metadata", ".json", func([]byte) []byte { return []byte("5") }, true, 0},
		{"no metadata", ".json", nil, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := strings.ReplaceAll(c.name, " ", "-") + ".example.org"
			ca := pebble.Start(t, pebble.Options{})
			o := withNames(acmeOptions(t, ca), name)
			r := startACME(t, ca, o)
			r.awaitReady(t)
			key := spki(r.Source)
			spoil := func() {
				at := filepath.Join(path(o), strings.TrimSuffix(siteCert(r.acme.issuers[0].IssuerKey(), name), ".crt")+c.file)
				data, err := os.ReadFile(at)
				must(t, err)
				must(t, os.Remove(at))
				if c.spoil != nil {
					writeFile(t, at, c.spoil(data))
				}
			}
			spoil()
			must(t, r.Renew(t.Context(), name)) // while it is held: the key is in memory
			if got := spki(r.Source); got != key && c.name != "another key" {
				t.Error("renewed with another key")
			}
			r.end()
			r.end = nil
			key = spki(r.Source)
			spoil()
			before := ca.FinalizedOrders()
			r = startACME(t, ca, o)
			r.awaitReady(t)
			time.Sleep(3 * o.StoragePoll)
			if n := ca.FinalizedOrders() - before; n != c.orders {
				t.Errorf("%d orders at the start", n)
			}
			if (spki(r.Source) == key) != c.keyStays {
				t.Errorf("the key stays: %t", !c.keyStays)
			}
			must(t, r.Renew(t.Context(), name))
		})
	}
}

// An expired certificate is better than none: most who send mail do not look.
func TestExpiredOnlyIsServedWithAProblem(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	o := withNames(acmeOptions(t, ca), "expired.example.org")
	cert, key := newPKI(t).issue(spec{names: []string{"expired.example.org"}, from: -90 * day, to: -day})
	stash(t, o, ca.DirectoryURL(), "expired.example.org", cert, key)
	ca.Answer5xx()
	r := startACME(t, ca, o)
	await(t, "a failure", func() bool { return r.Certificates()[0].Failures > 0 })
	if p := r.Problems(); len(p) != 1 || !strings.Contains(p[0], "expired on") || !r.Ready() {
		t.Errorf("ready %t, %q", r.Ready(), p)
	}
	if remedy := r.Certificates()[0].Remedy; remedy == "" {
		t.Error("nobody is told what to do")
	}
	old := spki(r.Source)
	ca.Heal()
	r.Reload()
	r.awaitReady(t)
	if spki(r.Source) != old {
		t.Error("another key")
	}
}

// A new directory starts with an empty folder. Until it has issued, the former
// one's certificate is served; and its key lives on, for TLSA records name it.
func TestNewDirectoryServesTheFormerOnesAndKeepsItsKey(t *testing.T) {
	t.Parallel()
	former := pebble.Start(t, pebble.Options{})
	o := acmeOptions(t, former)
	o.Entries = []Entry{{Names: []string{"former.example.org"}, KeyTypes: []string{"p256", "p384"}}}
	r := startACME(t, former, o)
	r.awaitReady(t)
	r.refresh() // or the second type of key may be the only one yet
	key, serial := spki(r.Source), served(t, r.Source)
	r.end()
	r.end = nil
	next := besides(t, former)
	must(t, next.Down())
	o.ACME.Directories = []Directory{directoryOf(next)}
	r = startACME(t, next, o)
	if served(t, r.Source) != serial {
		t.Error("the former one's is not served")
	}
	await(t, "a failure", func() bool { return r.Certificates()[0].Failures > 0 })
	must(t, next.Up())
	r.Reload()
	await(t, "the next CA's", func() bool { return next.FinalizedOrders() == 2 && served(t, r.Source) != serial })
	time.Sleep(3 * o.StoragePoll)
	if next.FinalizedOrders() != 2 || spki(r.Source) != key {
		t.Errorf("%d orders, same key: %t", next.FinalizedOrders(), spki(r.Source) == key)
	}
}

// A clock that was ahead made a leaf that is not valid yet: it is replaced as
// soon as the clock is right, and the replicas follow back in time.
func TestInternalLeafOfAClockThatWasAhead(t *testing.T) {
	o := Options{Entries: inside("ahead.internal"), Storage: disk(t.TempDir()), StoragePoll: 20 * time.Millisecond}
	s, _ := open(t, o)
	leaf, err := s.getCertificate(&tls.ClientHelloInfo{})
	must(t, err)
	ahead := *leaf.Leaf
	ahead.NotBefore, ahead.NotAfter = time.Now().Add(1000*day), time.Now().Add(1090*day)
	der, err := x509.CreateCertificate(nil, &ahead, s.internal.authority.root, leaf.Leaf.PublicKey, s.internal.authority.key)
	must(t, err)
	issuer := s.internal.authority.IssuerKey()
	must(t, o.Storage.Store(t.Context(), siteCert(issuer, "ahead.internal"), encode("CERTIFICATE", der)))
	second, _ := open(t, o)
	c, err := second.getCertificate(&tls.ClientHelloInfo{})
	must(t, err)
	if !valid(c.Leaf, time.Now()) {
		t.Errorf("served: valid from %s", c.Leaf.NotBefore)
	}
	// A process that took the one from the future follows.
	m := s.keepers[0].(*managed)
	future, err := x509.ParseCertificate(der)
	must(t, err)
	m.held = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leaf.PrivateKey, Leaf: future}
	must(t, m.reload(t.Context()))
	if !valid(m.certificate().Leaf, time.Now()) {
		t.Error("the replica keeps the one from the future")
	}
}

// Trap: certmagic tells of a certificate before anybody is served with it.
func TestEventComesWhenTheCertificateIsServed(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	var mu sync.Mutex
	var source *Source
	var told, late []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var e map[string]any
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		told = append(told, e["event"].(string))
		if c, err := source.getCertificate(&tls.ClientHelloInfo{}); err != nil || serialOf(c.Leaf) != e["serial"] {
			late = append(late, told[len(told)-1])
		}
	}))
	defer hook.Close()
	o := withNames(acmeOptions(t, ca), "event.example.org")
	o.OnEvent = Hook{URL: hook.URL}
	mu.Lock()
	r := startACME(t, ca, o)
	source = r.Source
	mu.Unlock()
	r.awaitReady(t)
	heard := func(n int) {
		await(t, "the event", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == n })
	}
	heard(1)
	for n := 2; n < 5; n++ {
		must(t, r.Renew(t.Context(), "event.example.org"))
		heard(n)
	}
	if len(late) > 0 || strings.Join(told, " ") != "obtained renewed renewed renewed" {
		t.Errorf("told %q, before they were served %q", told, late)
	}
}

// Types of keys, and addresses.
func TestObtainsEveryKindOfKey(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	for kind, want := range map[string]int{"p384": 384, "rsa2048": 2048, "rsa4096": 4096} {
		t.Run(kind, func(t *testing.T) {
			ca := besides(t, ca)
			o := acmeOptions(t, ca)
			o.Entries = []Entry{{Names: []string{kind + ".example.org"}, KeyTypes: []string{kind}}}
			r := startACME(t, ca, o)
			await(t, "the certificate", r.Ready)
			c, err := r.getCertificate(&tls.ClientHelloInfo{})
			must(t, err)
			if got := bits(c.Leaf); got != want {
				t.Errorf("%d bits", got)
			}
		})
	}
}
