package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	hookTry       = 10 * time.Second // a POST with its redirects, against a server that is silent
	hookRedirects = 3                // to the same host, against a loop
)

// hookPauses are between the tries. A server that is down for longer misses
// the event; the log has it.
var hookPauses = [...]time.Duration{time.Second, 4 * time.Second}

// errTryAgain marks what may be better in a moment: no connection, 429, 5xx.
type errTryAgain struct{ error }

func (e errTryAgain) Unwrap() error { return e.error }

// post posts an event as JSON. An answer of 2xx is a success.
func (h *hook) post(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	// Events are hours apart: a transport of its own leaves no idle connection.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: hookTry, CheckRedirect: sameHost}
	for try := 0; ; try++ {
		err = postOnce(ctx, client, h.URL, body)
		if again := (errTryAgain{}); !errors.As(err, &again) || try == len(h.pauses) {
			return err
		}
		pause := time.NewTimer(h.pauses[try])
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

func postOnce(ctx context.Context, client *http.Client, to string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return errors.New("on_event is not a URL") // the error would quote it
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "smtpseal")
	resp, err := client.Do(req)
	if err != nil {
		return errTryAgain{withoutURL(to, err)}
	}
	resp.Body.Close() // unread: nothing in it is for us
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 3:
		return fmt.Errorf("%s: answered %d: write the address that it redirects to into on_event", urlHost(to), code)
	case code/100 == 5, code == http.StatusTooManyRequests:
		return errTryAgain{fmt.Errorf("%s: answered %d", urlHost(to), code)}
	default:
		return fmt.Errorf("%s: answered %d: look at the address and the token in on_event", urlHost(to), code)
	}
}

// sameHost follows a redirect only where the event, and the token that may
// have come with it, stay with the host that they were meant for, and in the
// same scheme. 301 to 303 make a GET of the POST, which would lose the event.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Host != first.Host || req.URL.Scheme != first.Scheme || req.Method != http.MethodPost || len(via) > hookRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}
