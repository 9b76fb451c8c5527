package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds of all calls to vendors' APIs.
const (
	callTimeout  = 30 * time.Second // one call with its retry: a silent API must not hold up an order
	answerLimit  = 1 << 20          // octets of an answer: an endless one must not fill the memory
	messageLimit = 300              // octets of an API's own words in an error
	retryLimit   = 10 * time.Second // longest Retry-After that is waited for; beyond it the supervisor's back-off is the better place
)

// newClient is the HTTP client for a vendor's API, for our own calls and for
// vendors' libraries: with time-outs, bounded answers, one retry where the
// server asks for it, and without redirects, which could carry a token to
// another host.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{
		Timeout: callTimeout,
		Transport: &polite{&http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  20 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1, // an API is asked a few times in two months
			IdleConnTimeout:        10 * time.Second,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// polite bounds every answer and waits once where the server says 429 or 503
// with a Retry-After in bounds (RFC 9110 section 10.2.3, RFC 6585 section 4).
type polite struct{ next http.RoundTripper }

func (p *polite) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if again, pause := retry(request, response); again != nil {
		io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection can be used again
		response.Body.Close()
		if err := sleep(request.Context(), pause); err != nil {
			return nil, err
		}
		if response, err = p.next.RoundTrip(again); err != nil {
			return nil, err
		}
	}
	response.Body = &bounded{ReadCloser: response.Body, left: answerLimit}
	return response, nil
}

// retry is the same request once more and how long to wait before, or nil.
func retry(request *http.Request, response *http.Response) (*http.Request, time.Duration) {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return nil, 0
	}
	pause, ok := retryAfter(response.Header.Get("Retry-After"), time.Now())
	if !ok || pause > retryLimit {
		return nil, 0
	}
	again := request.Clone(request.Context())
	if request.Body != nil && request.Body != http.NoBody {
		if request.GetBody == nil {
			return nil, 0
		}
		body, err := request.GetBody()
		if err != nil {
			return nil, 0
		}
		again.Body = body
	}
	return again, pause
}

// retryAfter reads seconds or a date.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(0, date.Sub(now)), true
	}
	return 0, false
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errEndless = errors.New("answer is longer than 1 MiB: is this the API?")

// bounded fails, rather than ends, at its limit: half an answer must not be
// taken for a whole one.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errEndless
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// An api is one vendor's HTTP API that speaks JSON.
type api struct {
	client    *http.Client        // by newClient
	base      string              // without a slash at the end
	authorize func(*http.Request) // puts the token where the vendor wants it
	secrets   []string            // what authorize uses: cut out of every error
}

// call sends one request with in (unless nil) as its JSON and reads the answer
// into out (unless nil).
func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := a.request(ctx, method, path, in)
	if err != nil {
		return conceal(err, a.secrets...)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return conceal(err, a.secrets...) // names method and URL
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return conceal(fmt.Errorf("%s %s: %s: read answer: %w", method, request.URL, response.Status, err), a.secrets...)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return conceal(&statusError{method, request.URL.String(), response.StatusCode, response.Header.Get("Retry-After"), apiMessage(body)}, a.secrets...)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return conceal(fmt.Errorf("%s %s: answer is not the JSON of this API: %w", method, request.URL, err), a.secrets...)
	}
	return nil
}

func (a *api) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text) // a type for which GetBody is set
	}
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if a.authorize != nil {
		a.authorize(request)
	}
	return request, nil
}

// A statusError is an API's refusal.
type statusError struct {
	method, url string
	status      int
	retryAfter  string
	message     string // the API's own words, or empty
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		text += ": " + e.message
	}
	switch {
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		text += ": is the token or password right, and may it change this zone?"
	case e.retryAfter != "":
		text += ": to be tried again after " + brief([]byte(e.retryAfter))
	}
	return text
}

// apiMessage finds what vendors call their message in an answer, or takes the
// answer itself.
func apiMessage(body []byte) string {
	var answer struct {
		Message string          `json:"message"`
		Detail  string          `json:"detail"`
		Error   json.RawMessage `json:"error"`
		Errors  json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &answer) == nil {
		for _, said := range []string{answer.Message, answer.Detail, strings.Trim(string(answer.Error), `"`), string(answer.Errors)} {
			if said != "" {
				return brief([]byte(said))
			}
		}
	}
	return brief(body)
}

// brief makes one bounded, printable line of what somebody else has written.
func brief(text []byte) string {
	text = text[:min(len(text), messageLimit)]
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(string(text), "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
}

// A concealed error reads like the one in it without the secrets.
type concealed struct {
	error
	text string
}

func (c *concealed) Error() string { return c.text }
func (c *concealed) Unwrap() error { return c.error }

// conceal cuts secrets out of an error's text: an API may repeat the token
// that it refuses. %v and errors.Is still work.
func conceal(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "********")
		}
	}
	if text == err.Error() {
		return err
	}
	return &concealed{err, text}
}

// longestSuffix is the zone of zones in which a name is, with or without dots
// at the ends, or "". The answer is as it is in zones.
func longestSuffix(name string, zones []string) string {
	name = "." + strings.ToLower(strings.Trim(name, "."))
	found := ""
	for _, zone := range zones {
		bare := strings.ToLower(strings.Trim(zone, "."))
		if bare != "" && strings.HasSuffix(name, "."+bare) && len(bare) > len(strings.Trim(found, ".")) {
			found = zone
		}
	}
	return found
}
