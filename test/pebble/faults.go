package pebble

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Pebble's own paths; only the directory is known to clients.
const (
	noncePath   = "/nonce-plz"
	orderPath   = "/my-order/"
	accountPath = "/my-account/"
	ariPath     = "/draft-ietf-acme-ari-03/renewalInfo/"
)

// An ARI is an answer to the question when to renew (RFC 9773 section 4.2).
type ARI struct {
	Start, End  time.Time
	RetryAfter  time.Duration // in whole seconds; 0: at once again
	Explanation string        // a URL, or empty
}

// faults are what the CA does wrong now.
type faults struct {
	mu         sync.Mutex
	status     int // of every answer; 0: none of ours
	retryAfter time.Duration
	badNonces  int // how many more; below 0: all
	delay      time.Duration
	ari        map[string]ARI // by serial; "": every other certificate
}

// Answer5xx answers every request with 503 and a problem of the server.
func (c *CA) Answer5xx() { c.answer(http.StatusServiceUnavailable, 0) }

// Answer429 answers every request with 429 and Retry-After in whole seconds.
func (c *CA) Answer429(retryAfter time.Duration) { c.answer(http.StatusTooManyRequests, retryAfter) }

func (c *CA) answer(status int, retryAfter time.Duration) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.status, c.faults.retryAfter = status, retryAfter
}

// BadNonces refuses the nonces of the next n POSTs, of all below zero.
func (c *CA) BadNonces(n int) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.badNonces = n
}

// Slow lets every request wait for d first.
func (c *CA) Slow(d time.Duration) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.delay = d
}

// Heal ends all faults but Down.
func (c *CA) Heal() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.faults.status, c.faults.badNonces, c.faults.delay = 0, 0, 0
}

// SetARI answers questions about the certificate with that serial (as Serials
// spells it) with a; for an empty serial, about all others.
func (c *CA) SetARI(serial string, a ARI) {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	if c.faults.ari == nil {
		c.faults.ari = map[string]ARI{}
	}
	c.faults.ari[serial] = a
}

// Hook puts a layer around everything, faults too. The next one replaces it,
// nil takes it away.
func (c *CA) Hook(layer func(next http.Handler) http.Handler) {
	if layer == nil {
		c.hook.Store(nil)
		return
	}
	h := layer(http.HandlerFunc(c.faulty))
	c.hook.Store(&h)
}

// middleware leaves the handler in c.ledger.next and returns the layers above.
func (c *CA) middleware(pebble http.Handler) http.Handler {
	c.ledger.next = pebble
	return http.HandlerFunc(c.serve)
}

func (c *CA) serve(w http.ResponseWriter, r *http.Request) {
	if h := c.hook.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	c.faulty(w, r)
}

func (c *CA) faulty(w http.ResponseWriter, r *http.Request) {
	now, refuse := c.faults.next(r, c.options.NonceReject)
	if now.delay > 0 {
		wait := time.NewTimer(now.delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case now.status != 0:
		if now.retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(now.retryAfter/time.Second)))
		}
		kind := "serverInternal"
		if now.status == http.StatusTooManyRequests {
			kind = "rateLimited"
		}
		problem(w, now.status, kind)
	case refuse:
		// RFC 8555 section 6.5: with a fresh nonce, or clients cannot go on
		w.Header().Set("Replay-Nonce", c.nonce())
		problem(w, http.StatusBadRequest, "badNonce")
	case c.renewalInfo(w, r):
	default:
		c.record(w, r)
	}
}

// fault is a copy of faults for one request.
type fault struct {
	status            int
	retryAfter, delay time.Duration
}

func (f *faults) next(r *http.Request, reject int) (now fault, refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now = fault{f.status, f.retryAfter, f.delay}
	if r.Method != http.MethodPost || now.status != 0 {
		return now, false
	}
	if f.badNonces != 0 {
		f.badNonces = max(f.badNonces-1, -1)
		return now, true
	}
	return now, rand.IntN(100) < reject
}

func (c *CA) nonce() string {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodHead, noncePath, nil)
	r.Header.Set("User-Agent", "fault") // Pebble demands one
	c.ledger.next.ServeHTTP(w, r)
	return w.Header().Get("Replay-Nonce")
}

func problem(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":"a fault of the test","status":%d}`, kind, status)
}

// renewalInfo answers for Pebble when SetARI said so. Pebble's own way to set
// an answer is not used: it races with those who ask, and its Retry-After is
// always six hours.
func (c *CA) renewalInfo(w http.ResponseWriter, r *http.Request) bool {
	id, ok := strings.CutPrefix(r.URL.Path, ariPath)
	if !ok || r.Method != http.MethodGet {
		return false
	}
	_, encoded, _ := strings.Cut(id, ".")
	serial, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	c.faults.mu.Lock()
	a, ok := c.faults.ari[hex.EncodeToString(new(big.Int).SetBytes(serial).Bytes())]
	if !ok {
		a, ok = c.faults.ari[""]
	}
	c.faults.mu.Unlock()
	if !ok {
		return false
	}
	type window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", strconv.Itoa(int(a.RetryAfter/time.Second)))
	json.NewEncoder(w).Encode(struct {
		Window      window `json:"suggestedWindow"`
		Explanation string `json:"explanationURL,omitempty"`
	}{window{a.Start.UTC(), a.End.UTC()}, a.Explanation})
	return true
}
