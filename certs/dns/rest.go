package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

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
		return conceal(&statusError{method, request.URL.String(), response.StatusCode, response.Header.Get("Retry-After"), apiMessage([]byte(hide(string(body), a.secrets)))}, a.secrets...)
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
