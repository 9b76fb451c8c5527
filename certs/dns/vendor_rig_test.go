package dns

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A vendorCase is one vendor: how it is opened, and its API as documented.
type vendorCase struct {
	settings Settings
	wrong    Settings // what of them the API does not take, to be told so
	open     func(Settings, *zap.Logger, *http.Client, string) (*vendor, error)
	answer   func(*shelf, http.ResponseWriter, *http.Request)
	needs    string // which the error of a wrong token has to name
}

func vendorCases() map[string]vendorCase {
	return map[string]vendorCase{
		"cloudflare":   cloudflareCase(),
		"digitalocean": digitaloceanCase(),
		"hetzner":      hetznerCase(),
		"ovh":          ovhCase(),
		"route53":      route53Case(),
	}
}

// A shelf is what a vendor's API keeps: one zone, and in it records. It checks
// every request; the tests make it fail.
type shelf struct {
	testing.TB
	mu      sync.Mutex
	zone    string
	records []stored
	last    int                                           // number given to a record
	pad     int                                           // entries of others before ours in every listing, filter or not
	lag     int                                           // looks at a change until it is done
	fault   func(http.ResponseWriter, *http.Request) bool // true: it has answered
	calls   []string
	vendor  vendorCase
}

type stored struct {
	id               int
	name, kind, text string // text without quotes
	ttl              int
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	fault := s.fault
	s.mu.Unlock() // a fault may hang
	if fault != nil && fault(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vendor.answer(s, w, r)
}

func (s *shelf) put(name, kind, text string, ttl int) stored {
	s.last++
	r := stored{s.last, name, kind, text, ttl}
	s.records = append(s.records, r)
	return r
}

func (s *shelf) drop(id int) bool {
	before := len(s.records)
	s.records = slices.DeleteFunc(s.records, func(r stored) bool { return r.id == id })
	return len(s.records) < before
}

func (s *shelf) find(name, kind string) (found []stored) {
	for _, r := range s.records {
		if r.name == name && r.kind == kind {
			found = append(found, r)
		}
	}
	return found
}

// texts are the TXT values of a name, in order.
func (s *shelf) texts(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := []string{}
	for _, r := range s.find(name, "TXT") {
		texts = append(texts, r.text)
	}
	slices.Sort(texts)
	return texts
}

func (s *shelf) want(name string, texts ...string) {
	s.Helper()
	slices.Sort(texts)
	if got := s.texts(name); !slices.Equal(got, texts) {
		s.Errorf("TXT of %s: %q, want %q", name, got, texts)
	}
}

func (s *shelf) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// A rig is a provider and the API that it speaks to.
type rig struct {
	*shelf
	*vendor
	logs *observer.ObservedLogs
}

const (
	testName = "_acme-challenge.mail.example.org"
	valueA   = "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo"
	valueB   = "gDLxQydjR0-3Xr9mRtgC8pIFHJT_3JhPg8pnrZmDQbM"
)

func newRig(t *testing.T, c vendorCase, settings Settings) *rig {
	t.Helper()
	s := &shelf{TB: t, zone: "example.org", vendor: c}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	core, logs := observer.New(zap.DebugLevel)
	client := newClient()
	t.Cleanup(client.CloseIdleConnections)
	v, err := c.open(settings, zap.New(core), client, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.pauses {
		v.pauses[i] = time.Millisecond
	}
	switch service := v.service.(type) {
	case *hetzner:
		service.poll = time.Millisecond
	case *amazon:
		service.poll = time.Millisecond
	}
	r := &rig{s, v, logs}
	t.Cleanup(func() { r.quiet(settings, nil) })
	return r
}

// quiet checks that no secret is in an error or in a line of the log.
func (r *rig) quiet(settings Settings, err error) {
	r.Helper()
	texts := []string{fmt.Sprintf("%v %+v", err, err)}
	for _, line := range r.logs.All() {
		texts = append(texts, fmt.Sprintf("%v %v", line.Entry, line.ContextMap()))
	}
	for _, key := range Providers[r.vendor.name].Keys {
		secret := settings[key.Name]
		if !key.Secret || secret == "" {
			continue
		}
		for _, text := range texts {
			// The half too: what is cut to a length must not be cut in a secret.
			if strings.Contains(text, secret) || strings.Contains(text, secret[:len(secret)/2]) {
				r.Errorf("%s in %q", key.Name, text)
			}
		}
	}
}

func txt(value string) []libdns.Record {
	return []libdns.Record{libdns.TXT{Name: "_acme-challenge.mail", Text: value, TTL: 90 * time.Second}}
}

func (r *rig) append(records []libdns.Record) error {
	got, err := r.AppendRecords(r.Context(), "example.org.", records)
	if err == nil && !slices.Equal(got, records) {
		r.Errorf("returned %v, not what was given", got)
	}
	return err
}

func (r *rig) delete(records []libdns.Record) error {
	_, err := r.DeleteRecords(r.Context(), "example.org.", records)
	return err
}

func (r *rig) good(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// bad wants an error in which all of some words are, and no secret.
func (r *rig) bad(err error, words ...string) {
	r.Helper()
	if err == nil {
		r.Fatal("no error")
	}
	for _, word := range append(words, r.vendor.name+": ") {
		if !strings.Contains(err.Error(), word) {
			r.Errorf("%q is not in %q", word, err)
		}
	}
	r.quiet(r.shelf.vendor.settings, err)
}

func everyVendor(t *testing.T, test func(*testing.T, *rig)) {
	for name, c := range vendorCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, c, c.settings))
		})
	}
}

// failing makes calls fail, beginning with the skip-th, times times.
func (r *rig) failing(skip, times int, answer func(http.ResponseWriter)) {
	var mu sync.Mutex
	r.fault = func(w http.ResponseWriter, _ *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if skip--; skip >= 0 {
			return false
		}
		if times--; times < 0 {
			return false
		}
		answer(w)
		return true
	}
}

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "<html>sorry</html>")
	}
}

// refuse is how each vendor says no.
func refuse(vendor string, w http.ResponseWriter, status int, code, said string) {
	w.Header().Set("Content-Type", "application/json")
	text := ""
	switch vendor {
	case "cloudflare":
		text = `{"success":false,"errors":[{"code":1004,"message":%[2]q}],"messages":[],"result":null}`
	case "digitalocean":
		text = `{"id":%q,"message":%q}`
	case "hetzner":
		text = `{"error":{"code":%q,"message":%q}}`
	case "ovh":
		text = `{"class":%q,"message":%q}`
	case "route53":
		w.Header().Set("Content-Type", "text/xml")
		text = `<?xml version="1.0"?><ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type>` +
			`<Code>%s</Code><Message>%s</Message></Error><RequestId>b25f48e8</RequestId></ErrorResponse>`
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, text, code, said)
}
