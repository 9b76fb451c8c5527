package dns

import (
	"context"
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
	name, kind, text string // text without quotes, except where kept is asked
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
	r.quiet(r.vendor0(), err)
}

func (r *rig) vendor0() Settings { return r.shelf.vendor.settings }

func everyVendor(t *testing.T, test func(*testing.T, *rig)) {
	for name, c := range vendorCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, c, c.settings))
		})
	}
}

func TestVendorAddsAndRemoves(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		if found := r.find(testName, "TXT"); len(found) == 1 && found[0].ttl != 90 {
			t.Errorf("TTL %d, want 90", found[0].ttl)
		}
		r.good(r.delete(txt(valueA)))
		r.want(testName)
	})
}

// The challenges of a name and of its wildcard are at one name (RFC 8555
// section 8.4).
func TestVendorKeepsTwoValuesOfOneName(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.good(r.append(txt(valueB)))
		r.want(testName, valueA, valueB)
		r.good(r.delete(txt(valueA)))
		r.want(testName, valueB)
		r.good(r.delete(txt(valueB)))
		r.good(r.append(slices.Concat(txt(valueA), txt(valueB), txt(valueA))))
		r.want(testName, valueA, valueB)
		r.good(r.delete(slices.Concat(txt(valueA), txt(valueB))))
		r.want(testName)
	})
}

func TestVendorLeavesRecordsOfOthersAlone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.put(testName, "TXT", "somebody else's", 3600)
		r.put(testName, "A", "192.0.2.1", 3600)
		r.put("_acme-challenge.example.org", "TXT", valueA, 3600)
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA, "somebody else's")
		r.good(r.delete(txt(valueA)))
		r.want(testName, "somebody else's")
		r.want("_acme-challenge.example.org", valueA)
		if len(r.find(testName, "A")) != 1 {
			t.Error("A record is gone")
		}
	})
}

func TestVendorFindsApexAndEveryPage(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.pad = 205 // more than a page of anything
		if r.vendor.name == "ovh" {
			r.pad = 50 // has no pages
		}
		apex := []libdns.Record{libdns.TXT{Name: "@", Text: valueA}}
		r.good(r.append(apex))
		r.good(r.append(apex)) // found again behind all the others
		r.want("example.org", valueA)
		r.good(r.delete(apex))
		r.want("example.org")
	})
}

func TestVendorDoesNothingTwice(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append(txt(valueA)))
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		r.good(r.delete(txt(valueB)))
		r.want(testName, valueA)
		r.good(r.delete(txt(valueA)))
		r.good(r.delete(txt(valueA)))
	})
}

func TestVendorRaisesTTL(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.good(r.append([]libdns.Record{libdns.TXT{Name: "a", Text: valueA}}))
		if got, want := r.find("a.example.org", "TXT")[0].ttl, int(r.lowest/time.Second); got != want {
			t.Errorf("TTL %d, want the lowest %d", got, want)
		}
	})
}

// Replicas share an account: nobody's value may be lost by another's.
func TestVendorAddsAtTheSameTime(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		values := []string{"value-1", "value-2", "value-3"}
		var done sync.WaitGroup
		for _, value := range values {
			done.Go(func() {
				if err := r.append(txt(value)); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		r.want(testName, values...)
	})
}

func TestVendorRefusesToken(t *testing.T) {
	for name, c := range vendorCases() {
		for key, value := range c.wrong {
			t.Run(name+" "+key, func(t *testing.T) {
				t.Parallel()
				settings := Settings{}
				for k, v := range c.settings {
					settings[k] = v
				}
				settings[key] = value
				r := newRig(t, c, settings)
				err := r.append(txt(valueA))
				r.bad(err, c.needs)
				r.quiet(settings, err)
				if len(r.calls) > 3 {
					t.Errorf("a wrong token was tried again: %q", r.calls)
				}
				r.want(testName)
			})
		}
	}
}

func TestVendorHasNoSuchZone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		_, err := r.AppendRecords(t.Context(), "example.net.", txt(valueA))
		r.bad(err, "example.net", "no such zone", r.rights)
		_, err = r.DeleteRecords(t.Context(), "example.net.", txt(valueA))
		r.bad(err, "example.net", "no such zone")
	})
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

func TestVendorWaitsAsLongAsItIsTold(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		began := time.Now()
		r.failing(0, 1, status(http.StatusTooManyRequests, "Retry-After", "1"))
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		if took := time.Since(began); took < time.Second {
			t.Errorf("waited %s, not a second", took)
		}
	})
}

func TestVendorGivesUpAtALongRetryAfter(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.failing(0, 1000, status(http.StatusTooManyRequests, "Retry-After", "3600"))
		r.bad(r.append(txt(valueA)), "429", "too many calls")
		if len(r.calls) != 1 {
			t.Errorf("%d calls, want 1: %q", len(r.calls), r.calls)
		}
	})
}

// Whichever call is the one that fails.
func TestVendorTriesAgain(t *testing.T) {
	for skip := range 5 {
		t.Run(fmt.Sprint("call ", skip), func(t *testing.T) {
			everyVendor(t, func(t *testing.T, r *rig) {
				r.failing(skip, 2, status(http.StatusBadGateway))
				r.good(r.append(txt(valueA)))
				r.want(testName, valueA)
				r.failing(skip, 2, status(http.StatusInternalServerError))
				r.good(r.delete(txt(valueA)))
				r.want(testName)
			})
		})
	}
}

// The answer is lost on the way back: the record is there, and once only.
func TestVendorTriesAgainWhatWasDone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		lost := false
		r.fault = func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPost || lost {
				return false
			}
			lost = true
			r.mu.Lock()
			r.shelf.vendor.answer(r.shelf, httptest.NewRecorder(), q)
			r.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
		if !lost {
			t.Error("nothing was lost")
		}
	})
}

func TestVendorStopsTrying(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.failing(0, 1000, status(http.StatusServiceUnavailable))
		r.bad(r.append(txt(valueA)), "503")
		if want := len(r.pauses) + 1; len(r.calls) != want {
			t.Errorf("%d calls, want %d: %q", len(r.calls), want, r.calls)
		}
	})
}

func TestVendorTakesNoGarbageForAnAnswer(t *testing.T) {
	for _, garbage := range []string{"", "null", "[]", "{}", `"x"`, "7", `{"result": [`, "<html><body>Log in first</body></html>",
		`<?xml version="1.0"?><a>`, strings.Repeat("{\"a\":", 20000)} {
		for _, kind := range []string{"application/json; charset=utf-8", "text/html", "text/xml"} {
			for skip := range 3 {
				everyVendor(t, func(t *testing.T, r *rig) {
					r.failing(skip, 1000, func(w http.ResponseWriter) {
						w.Header().Set("Content-Type", kind)
						io.WriteString(w, garbage)
					})
					// No call of any vendor may be taken for done, except where
					// an empty answer is one, or an empty list an empty list.
					if err := r.append(txt(valueA)); err == nil && len(r.texts(testName)) == 0 {
						t.Errorf("%.20q as %s at call %d: no error", garbage, kind, skip)
					} else if err != nil {
						r.bad(err)
						if len(err.Error()) > 2000 {
							t.Errorf("error of %d octets", len(err.Error()))
						}
					}
				})
			}
		}
	}
}

func TestVendorDoesNotReadWithoutEnd(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		r.failing(0, 1000, func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			spaces := strings.Repeat(" ", 1<<16)
			for i := 0; i < 100; i++ {
				if _, err := io.WriteString(w, spaces); err != nil {
					return
				}
			}
		})
		r.bad(r.append(txt(valueA)))
	})
}

func TestVendorDoesNotWaitForASilentAPI(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		r.fault = func(_ http.ResponseWriter, q *http.Request) bool {
			io.Copy(io.Discard, q.Body) // or the server does not see that the client is gone
			<-q.Context().Done()
			return true
		}
		began := time.Now()
		_, err := r.AppendRecords(ctx, "example.org.", txt(valueA))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		r.bad(err, "no answer in time")
	})
}

// A CNAME comes from the DNS and may lead anywhere, also into another path.
func TestVendorRefusesNamesThatAreNone(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		for _, record := range []libdns.Record{
			libdns.TXT{Name: "../../v2/droplets", Text: valueA},
			libdns.TXT{Name: "a?b", Text: valueA},
			libdns.TXT{Name: "a b", Text: valueA},
			libdns.TXT{Name: "ä", Text: valueA},
			libdns.TXT{Name: "a", Text: strings.Repeat("x", 256)},
			libdns.TXT{Name: "a", Text: "a\nb"},
			libdns.RR{Name: "a", Type: "CNAME", Data: "example.com."},
		} {
			r.bad(r.append([]libdns.Record{record}))
		}
		if _, err := r.AppendRecords(t.Context(), "example.org/x.", txt(valueA)); err == nil {
			t.Error("zone with a slash was taken")
		}
		if len(r.calls) != 0 {
			t.Errorf("calls: %q", r.calls)
		}
	})
}

// What a library finds in the environment must not get into our calls: each
// fake checks that it is addressed as the settings say.
func TestVendorReadsNoEnvironment(t *testing.T) {
	for _, name := range []string{"CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL", "DIGITALOCEAN_TOKEN",
		"DIGITALOCEAN_ACCESS_TOKEN", "HCLOUD_TOKEN", "OVH_APPLICATION_KEY", "OVH_APPLICATION_SECRET", "OVH_CONSUMER_KEY",
		"OVH_CLIENT_ID", "OVH_CLIENT_SECRET", "OVH_ACCESS_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "from-the-environment")
	}
	for _, name := range []string{"CLOUDFLARE_BASE_URL", "HCLOUD_ENDPOINT", "OVH_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ROUTE_53"} {
		t.Setenv(name, "http://127.0.0.1:1/")
	}
	t.Setenv("AWS_REGION", "cn-north-1")
	t.Setenv("AWS_MAX_ATTEMPTS", "50")
	for name, c := range vendorCases() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c, c.settings)
			r.good(r.append(txt(valueA)))
			r.want(testName, valueA)
			r.failing(0, 1000, status(http.StatusServiceUnavailable))
			before := len(r.calls)
			r.bad(r.delete(txt(valueA)), "503")
			if calls := len(r.calls) - before; calls != len(r.pauses)+1 {
				t.Errorf("%d calls, want %d", calls, len(r.pauses)+1)
			}
		})
	}
}

// The API repeats what it was sent, at a length at which it is cut.
func TestVendorTellsNoSecretThatIsRepeated(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		secrets := ""
		for _, s := range r.secrets {
			secrets += " " + s
		}
		for _, code := range []int{400, 401, 403, 404, 409, 422, 429, 500} {
			for pad := 270; pad < 310; pad += 3 {
				said := strings.Repeat("x", pad) + secrets
				r.failing(0, 1000, func(w http.ResponseWriter) { refuse(r.vendor.name, w, code, "InvalidInput", said) })
				r.bad(r.append(txt(valueA)))
			}
		}
	})
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
