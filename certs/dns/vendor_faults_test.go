package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/libdns/libdns"
)

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
			for pad := 200; pad < 305; pad += 7 {
				said := strings.Repeat("x", pad) + secrets
				r.failing(0, 1000, func(w http.ResponseWriter) { refuse(r.vendor.name, w, code, "InvalidInput", said) })
				r.bad(r.append(txt(valueA)))
			}
		}
	})
}

// An error that is no refusal, of a library or a proxy in the way.
func TestVendorTellsNoSecretOfOthersErrors(t *testing.T) {
	everyVendor(t, func(t *testing.T, r *rig) {
		for _, secret := range r.secrets {
			r.bad(r.explain(fmt.Errorf("read list: %w", errors.New("odd header "+secret))), "odd header ********")
		}
	})
}
