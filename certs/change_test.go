package certs

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// Names and types of keys come and go while clients are served.
func TestApplyWhileRunning(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	files := newPKI(t).files(spec{names: []string{"moved.example.org"}})
	r := startACME(t, ca, withNames(acmeOptions(t, ca), "stays.example.org", "moved.example.org"))
	r.awaitReady(t)
	stays := served(t, r.Source)

	must(t, r.Apply(t.Context(), []Entry{
		{Names: []string{"new.example.org"}},
		{Pair: files}, // moved from ACME
		{Names: []string{"stays.example.org"}, KeyTypes: []string{"p256", "p384"}},
	}))
	await(t, "what is new", func() bool { return len(r.Problems()) == 0 && len(r.index.Load().exact) == 3 })
	first := r.index.Load().any[0].Leaf
	all := r.Certificates()
	var order []string
	for _, c := range all {
		order = append(order, c.Names[0]+" "+c.KeyType)
	}
	if got := strings.Join(order, ", "); got != "new.example.org p256, moved.example.org , stays.example.org p256, stays.example.org p384" {
		t.Error(got)
	}
	if first.DNSNames[0] != "new.example.org" || all[2].Serial != stays || all[1].Source == originACME {
		t.Errorf("%+v", all)
	}
	for name, want := range map[string]bool{"new.example.org": true, "stays.example.org": true, "moved.example.org": false} {
		if _, ours := r.ours(name); ours != want {
			t.Errorf("challenges for %s: %t", name, ours)
		}
	}
	// One entry that fails, and nothing has changed.
	if r.Apply(t.Context(), []Entry{{Names: []string{"other.example.org"}}, {Pair: Pair{"/nowhere", "/nowhere"}}}) == nil {
		t.Error("a file that is not there")
	}
	if now := r.Certificates(); len(now) != 4 || now[2].Serial != stays {
		t.Errorf("after a failure: %+v", now)
	}
	if _, ours := r.ours("other.example.org"); ours {
		t.Error("an order for a name of entries that were refused")
	}
	must(t, r.Apply(t.Context(), byACME("stays.example.org")))
	if got := served(t, r.Source); got != stays || ca.FinalizedOrders() != 4 {
		t.Errorf("serial %s, %d orders", got, ca.FinalizedOrders())
	}
}

// A removed name's order ends at once, and status pages do not wait for it.
func TestRemovedNameIsCancelledAtOnce(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	r := startACME(t, ca, withNames(acmeOptions(t, ca), "remains.example.org"))
	r.awaitReady(t)
	arrived := make(chan struct{}, 100)
	ca.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			arrived <- struct{}{}
			<-q.Context().Done()
		})
	})
	must(t, r.Apply(t.Context(), byACME("remains.example.org", "removed.example.org")))
	<-arrived
	start := time.Now()
	must(t, r.Apply(t.Context(), byACME("remains.example.org")))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if len(r.Problems()) > 0 {
		t.Errorf("%q", r.Problems())
	}
}

// While a reload waits for a silent storage, status pages and handshakes do not.
func TestNobodyWaitsForAReload(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	store := newMemory()
	o := withNames(acmeOptions(t, ca), "reload.example.org")
	o.Storage = store
	r := startACME(t, ca, o)
	r.awaitReady(t)
	store.silence(true)
	applied := make(chan error, 1)
	go func() { applied <- r.Apply(t.Context(), byACME("reload.example.org", "second.reload.example.org")) }()
	time.Sleep(200 * time.Millisecond)
	start := time.Now()
	if len(r.Certificates()) != 1 || !r.Ready() || served(t, r.Source) == "" || time.Since(start) > time.Second {
		t.Errorf("took %s", time.Since(start))
	}
	store.silence(false)
	must(t, <-applied)
}

// The challenge servers are open to everybody: only names of ours reach the
// storage, and as we spell them.
func TestHostileHostsDoNotReachTheStorage(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	store := newMemory()
	o := withNames(acmeOptions(t, ca), "host.example.org", "192.0.2.7", "2001:db8::7")
	o.Storage = store
	s, err := Open(t.Context(), o)
	must(t, err)
	defer s.Close()
	handler, alpn := s.HTTPChallenge(), serve(t, s.ALPNChallenge())
	const reverse6 = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
	for host, want := range map[string]bool{
		"host.example.org": true, "HOST.Example.ORG.": true, "host.example.org:80": true, "192.0.2.7": true, "[2001:db8::7]:80": true, "[2001:DB8:0::7]": true,
		"7.2.0.192.in-addr.arpa": true, reverse6: true,
		"": false, "..": false, "../../x": false, "other.example.org": false, "host.example.org/../../x": false, "*.example.org": false,
		strings.Repeat("a.", 5000): false, "\x00": false, "host.example.org\r\nx: y": false, "192.0.2.8": false, strings.Replace(reverse6, ".", "/", 3): false,
		"07.2.0.192.in-addr.arpa": false,
	} {
		before := store.calls()
		request := httptest.NewRequest(http.MethodGet, "/.well-known/acme-challenge/token", nil)
		request.Host = host
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		if got := store.calls() > before; got != want || w.Code != http.StatusNotFound {
			t.Errorf("http %q: storage asked %t, status %d", host, got, w.Code)
		}
		before = store.calls()
		if _, err := dial(alpn, &tls.Config{ServerName: host, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}); err == nil {
			t.Errorf("tls %q: a certificate", host)
		}
		if got := store.calls() > before; got && !want {
			t.Errorf("tls %q: storage asked", host)
		}
	}
	for _, request := range []*http.Request{
		httptest.NewRequest(http.MethodPost, "http://host.example.org/.well-known/acme-challenge/token", strings.NewReader("x")),
		httptest.NewRequest(http.MethodGet, "http://host.example.org/", nil),
	} {
		before := store.calls()
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		body, _ := io.ReadAll(w.Body)
		if w.Code != http.StatusNotFound || store.calls() != before || strings.Contains(string(body), "token") {
			t.Errorf("%s %s: %d", request.Method, request.URL, w.Code)
		}
	}
}

// The start with a thousand certificates in files: at most 5 s are promised.
func TestOpensAThousandNames(t *testing.T) {
	ca, took, per := openMany(t, 1000)
	t.Logf("1,000 certificates opened in %s, %d KiB each", took.Round(time.Millisecond), per>>10)
	if took > 20*time.Second { // a busy machine, and the race detector
		t.Errorf("took %s", took)
	}
	if ca.FinalizedOrders() != 0 {
		t.Error("ordered what is there")
	}
}

// openMany opens a Source of n names whose certificates are stored, and runs it.
func openMany(t testing.TB, n int) (ca *pebble.CA, took time.Duration, memory int64) {
	ca = pebble.Start(t, pebble.Options{})
	must(t, ca.Down())
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("m%d.many.example.org", i))
	}
	o := withNames(acmeOptions(t, ca), names...)
	o.StoragePoll, o.ACME.IgnoreARI = time.Hour, true
	pki := newPKI(t)
	key := newKey(t, false)
	for _, name := range names {
		cert, pem := pki.issue(spec{names: []string{name}, key: key})
		stash(t, o, ca.DirectoryURL(), name, cert, pem)
	}
	before := inUse()
	start := time.Now()
	s, err := Open(t.Context(), o)
	must(t, err)
	took = time.Since(start)
	if len(s.index.Load().exact) != n {
		t.Errorf("%d names", len(s.index.Load().exact))
	}
	run(t, s)
	time.Sleep(2 * time.Second) // the supervisors are up
	return ca, took, (inUse() - before) / int64(n)
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
