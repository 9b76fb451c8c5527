package chromium

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// A Look is how a page is looked at. The zero value is a light 1280 by 800 with
// JavaScript.
type Look struct {
	Width, Height int
	Dark          bool
	NoScript      bool
}

// A Tab is one page. It ends with the test, or before by Close.
type Tab struct {
	pipe    *pipe
	session string
	context string // its own cookies and caches

	mu         sync.Mutex
	requests   []string
	complaints []string
}

// Open loads a page and waits for its load event.
func (b *Browser) Open(t testing.TB, url string, look Look) *Tab {
	t.Helper()
	tab, err := b.open(look)
	if err != nil {
		t.Fatalf("chromium: open %s: %v", url, err)
	}
	tab.Go(t, url)
	return tab
}

type object map[string]any

func (b *Browser) open(look Look) (*Tab, error) {
	var context struct{ BrowserContextID string }
	if err := b.pipe.call("", "Target.createBrowserContext", nil, &context); err != nil {
		return nil, err
	}
	var target struct{ TargetID string }
	if err := b.pipe.call("", "Target.createTarget", object{"url": "about:blank", "browserContextId": context.BrowserContextID}, &target); err != nil {
		return nil, err
	}
	var attached struct{ SessionID string }
	if err := b.pipe.call("", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &attached); err != nil {
		return nil, err
	}
	tab := &Tab{pipe: b.pipe, session: attached.SessionID, context: context.BrowserContextID}
	b.pipe.listen(tab.session, tab.hear)
	return tab, tab.prepare(look)
}

func (t *Tab) prepare(look Look) error {
	if look.Width == 0 {
		look.Width = 1280
	}
	if look.Height == 0 {
		look.Height = 800
	}
	scheme := "light"
	if look.Dark {
		scheme = "dark"
	}
	return errors.Join(
		t.do("Page.enable", nil), t.do("Network.enable", nil), t.do("Log.enable", nil), t.do("Runtime.enable", nil),
		t.do("Emulation.setDeviceMetricsOverride", object{"width": look.Width, "height": look.Height, "deviceScaleFactor": 1, "mobile": look.Width < 600}),
		t.do("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}}),
		t.do("Emulation.setScriptExecutionDisabled", object{"value": look.NoScript}),
	)
}

// Close ends the tab.
func (t *Tab) Close(tb testing.TB) {
	tb.Helper()
	if err := t.pipe.call("", "Target.disposeBrowserContext", object{"browserContextId": t.context}, nil); err != nil {
		tb.Errorf("chromium: close: %v", err)
	}
}

func (t *Tab) do(method string, params any) error { return t.pipe.call(t.session, method, params, nil) }

// hear remembers what the page asks for, and what it complains about.
func (t *Tab) hear(m message) {
	var event struct {
		Request          struct{ URL string }
		Entry            struct{ Level, Text, URL string }
		ExceptionDetails struct{ Exception struct{ Description string } }
	}
	if json.Unmarshal(m.Params, &event) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch m.Method {
	case "Network.requestWillBeSent":
		t.requests = append(t.requests, event.Request.URL)
	case "Log.entryAdded":
		t.complaints = append(t.complaints, event.Entry.Level+": "+event.Entry.Text+" "+event.Entry.URL)
	case "Runtime.exceptionThrown":
		t.complaints = append(t.complaints, "exception: "+event.ExceptionDetails.Exception.Description)
	}
}

// Requests are the addresses that the page has asked for.
func (t *Tab) Requests() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.requests)
}

// Complaints are errors of scripts, and what the browser has refused the page.
func (t *Tab) Complaints() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.complaints)
}

// Go loads another page in this tab, and waits until it is there.
func (t *Tab) Go(tb testing.TB, url string) {
	tb.Helper()
	var gone struct{ ErrorText string }
	if err := t.pipe.call(t.session, "Page.navigate", object{"url": url}, &gone); err != nil || gone.ErrorText != "" {
		tb.Fatalf("chromium: load %s: %v %s", url, err, gone.ErrorText)
	}
	t.Wait(tb, `document.readyState === "complete"`)
}

// Eval is the value of an expression in the page, awaited if it is a promise.
// It works where the page itself may run no script.
func (t *Tab) Eval(tb testing.TB, expression string, into any) {
	tb.Helper()
	if err := t.eval(expression, into); err != nil {
		tb.Fatalf("chromium: %s: %v", expression, err)
	}
}

func (t *Tab) eval(expression string, into any) error {
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := t.pipe.call(t.session, "Runtime.evaluate",
		object{"expression": expression, "awaitPromise": true, "returnByValue": true}, &answer)
	switch {
	case err != nil:
		return err
	case answer.ExceptionDetails != nil:
		return errors.New(answer.ExceptionDetails.Text + " " + answer.ExceptionDetails.Exception.Description)
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer.Result.Value, into)
}

// Wait waits until an expression is true, and returns for how long it was not.
func (t *Tab) Wait(tb testing.TB, expression string) time.Duration {
	tb.Helper()
	begin := time.Now()
	var last error
	for time.Since(begin) < patience {
		var is bool
		// A page that is being left has nobody to ask, for a moment.
		if last = t.eval("!!("+expression+")", &is); last == nil && is {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
	tb.Fatalf("chromium: %s: not so in %s %v", expression, patience, last)
	return 0
}

// Hide makes the tab one that nobody looks at, or one that somebody does.
func (t *Tab) Hide(tb testing.TB, hidden bool) {
	tb.Helper()
	t.Eval(tb, fmt.Sprintf(`Object.defineProperty(document, "hidden", {configurable: true, value: %t}),
		document.dispatchEvent(new Event("visibilitychange"))`, hidden), nil)
}

// Screenshot writes the whole page into a PNG, which go test -artifacts keeps.
func (t *Tab) Screenshot(tb testing.TB, name string) {
	tb.Helper()
	var shot struct{ Data []byte }
	if err := t.pipe.call(t.session, "Page.captureScreenshot", object{"captureBeyondViewport": true}, &shot); err != nil {
		tb.Fatalf("chromium: screenshot: %v", err)
	}
	if err := os.WriteFile(filepath.Join(tb.ArtifactDir(), name+".png"), shot.Data, 0o600); err != nil {
		tb.Fatal(err)
	}
}
