package pebble_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"smtpseal/test/pebble"
)

func start(t *testing.T, o pebble.Options) (*pebble.CA, *client) {
	t.Helper()
	ca := pebble.Start(t, o)
	return ca, newClient(t, ca, serveHTTP01(t, ca.HTTPAddr()))
}

// get asks for the directory without any retry of the client's.
func get(t *testing.T, c *client, url string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.HTTPClient.Do(request)
	if err == nil {
		t.Cleanup(func() { response.Body.Close() })
	}
	return response, err
}

func TestDownRefusesAndUpComesBackOnTheSamePort(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	c.mustObtain(t, "mx.example.org")
	url := ca.DirectoryURL()
	for range 3 {
		if err := ca.Down(); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t, c, url); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("down: %v", err)
		}
		if err := ca.Up(); err != nil {
			t.Fatal(err)
		}
		if ca.DirectoryURL() != url {
			t.Fatalf("now at %s", ca.DirectoryURL())
		}
		c.mustObtain(t, "mx.example.org") // the account is still known
	}
	if ca.FinalizedOrders() != 4 || len(ca.Accounts()) != 1 {
		t.Errorf("%d orders, %d accounts", ca.FinalizedOrders(), len(ca.Accounts()))
	}
}

func TestAnswer5xx(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	ca.Answer5xx()
	var problem acme.Problem
	if _, err := c.obtain(t, "mx.example.org"); !errors.As(err, &problem) || problem.Status != 503 {
		t.Fatalf("with a broken CA: %v", err)
	}
	ca.Heal()
	c.mustObtain(t, "mx.example.org")
}

func TestAnswer429(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	ca.Answer429(7 * time.Second)
	var problem acme.Problem
	if _, err := c.obtain(t, "mx.example.org"); !errors.As(err, &problem) || problem.Type != acme.ProblemTypeRateLimited {
		t.Fatalf("with a rate limit: %v", err)
	}
	response, err := get(t, c, ca.DirectoryURL())
	if err != nil || response.StatusCode != 429 || response.Header.Get("Retry-After") != "7" {
		t.Fatalf("%v %v", response, err)
	}
	ca.Heal()
	c.mustObtain(t, "mx.example.org")
}

func TestBadNonces(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	ca.BadNonces(3)
	c.mustObtain(t, "mx.example.org")
	if ca.FinalizedOrders() != 1 || len(ca.Orders("")) != 1 {
		t.Errorf("repeats were counted: %+v", ca.Orders(""))
	}
	ca.BadNonces(-1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var problem acme.Problem
	if _, err := c.NewOrder(ctx, c.account, acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: "a.example.org"}}}); !errors.As(err, &problem) || problem.Type != acme.ProblemTypeBadNonce {
		t.Fatalf("no nonce is good: %v", err)
	}
	ca.Heal()
	c.mustObtain(t, "mx.example.org")
}

func TestNonceReject(t *testing.T) {
	ca, c := start(t, pebble.Options{NonceReject: 30})
	var refused atomic.Int32
	ca.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&statusWriter{w, 400, &refused}, r)
		})
	})
	for range 6 {
		c.mustObtain(t, "mx.example.org")
	}
	if refused.Load() == 0 || ca.FinalizedOrders() != 6 {
		t.Errorf("%d refused, %d orders", refused.Load(), ca.FinalizedOrders())
	}
}

// A statusWriter counts the answers with one status.
type statusWriter struct {
	http.ResponseWriter
	status int
	count  *atomic.Int32
}

func (w *statusWriter) WriteHeader(status int) {
	if status == w.status {
		w.count.Add(1)
	}
	w.ResponseWriter.WriteHeader(status)
}

func TestSlow(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	ca.Slow(300 * time.Millisecond)
	began := time.Now()
	if _, err := get(t, c, ca.DirectoryURL()); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	c.HTTPClient.Timeout = 100 * time.Millisecond
	if _, err := get(t, c, ca.DirectoryURL()); err == nil {
		t.Error("an answer in time")
	}
	c.HTTPClient.Timeout = 0
	ca.Heal()
	c.mustObtain(t, "mx.example.org")
}

func TestSetARI(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	one, other := c.mustObtain(t, "one.example.org"), c.mustObtain(t, "other.example.org")
	ask := func() (acme.RenewalInfo, acme.RenewalInfo) {
		t.Helper()
		first, err := c.GetRenewalInfo(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.GetRenewalInfo(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		return first, second
	}
	begin := time.Now().Add(time.Hour).Truncate(time.Second)
	own, _ := ask()
	if own.SuggestedWindow.Start.Before(begin) {
		t.Errorf("Pebble's own window begins at %s", own.SuggestedWindow.Start)
	}
	ca.SetARI(hex.EncodeToString(one.SerialNumber.Bytes()), pebble.ARI{Start: begin, End: begin.Add(time.Minute), RetryAfter: 2 * time.Second, Explanation: "https://ca.example/why"})
	set, unset := ask()
	if !set.SuggestedWindow.Start.Equal(begin) || !set.SuggestedWindow.End.Equal(begin.Add(time.Minute)) || set.ExplanationURL != "https://ca.example/why" {
		t.Errorf("set: %+v", set)
	}
	if wait := time.Until(*set.RetryAfter); wait > 2*time.Second {
		t.Errorf("ask again in %s", wait)
	}
	if unset.SuggestedWindow.Start.Equal(begin) {
		t.Errorf("of another certificate: %+v", unset)
	}
	ca.SetARI("", pebble.ARI{Start: begin.Add(time.Hour), End: begin.Add(2 * time.Hour)})
	set, unset = ask()
	if !set.SuggestedWindow.Start.Equal(begin) || !unset.SuggestedWindow.Start.Equal(begin.Add(time.Hour)) {
		t.Errorf("for all others: %+v and %+v", set, unset)
	}
}

func TestHookSeesAndChangesEverything(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	var seen atomic.Int32
	ca.Hook(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", strconv.Itoa(int(seen.Add(1))))
			next.ServeHTTP(w, r)
		})
	})
	ca.Answer5xx()
	if r, err := get(t, c, ca.DirectoryURL()); err != nil || r.Header.Get("X-Seen") != "1" || r.StatusCode != 503 {
		t.Fatalf("%v %v", r, err)
	}
	ca.Heal()
	ca.Hook(nil)
	c.mustObtain(t, "mx.example.org")
	if seen.Load() != 1 {
		t.Errorf("%d requests after the hook was gone", seen.Load()-1)
	}
}

func TestWaitFinalizedCountsWhatNobodyFetched(t *testing.T) {
	ca, c := start(t, pebble.Options{})
	if got := ca.WaitFinalized(1, 50*time.Millisecond); got != 0 {
		t.Errorf("%d at once", got)
	}
	c.mustObtain(t, "mx.example.org")
	if got := ca.WaitFinalized(1, 0); got != 1 {
		t.Errorf("%d in the end", got)
	}
}
