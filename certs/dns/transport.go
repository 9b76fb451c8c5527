package dns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Bounds of all calls to vendors' APIs.
const (
	callTimeout = 30 * time.Second // one call with its retry: a silent API must not hold up an order
	answerLimit = 1 << 20          // octets of an answer: an endless one must not fill the memory
	retryLimit  = 10 * time.Second // longest Retry-After that is waited for; beyond it the supervisor's back-off is the better place
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
