package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"smtpseal/admin"
	"smtpseal/test/chromium"
	"smtpseal/test/mta"
)

// A shownNumber is one of the page, with where it is in /status and in /metrics:
// a path in which * is every element, and a name with labels. What is below is
// added up.
type shownNumber struct {
	Tag, Value, Status, Metric, Labels string
}

const allNumbers = `[...document.querySelectorAll("main data, main time[data-status]")].map(e => ({
	tag: e.localName, value: e.getAttribute("value") ?? e.dateTime,
	status: e.dataset.status ?? "", metric: e.dataset.metric ?? "", labels: e.dataset.labels ?? "{}"}))`

// After sessions of all kinds every number on the page of a real process is the
// one of /status and of /metrics, and no metric that has moved is missing.
func TestStatusPageNumbers(t *testing.T) {
	t.Parallel()
	p, _ := newFleet(t)
	begun := p.storm(t, 300, p.tls())
	p.wait("all lines", func() bool { _, lines := p.logged(); return lines >= begun })
	browser := chromium.Start(t, nil)
	for _, look := range []chromium.Look{{}, {NoScript: true}} {
		tab := browser.Open(t, "http://"+p.admin+"/", look)
		var numbers []shownNumber
		tab.Eval(t, allNumbers, &numbers)
		_, text := p.visit(t, "/status")
		var status any
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			t.Fatal(err)
		}
		metrics := p.scraped(t)
		seen := map[string]bool{}
		for _, n := range numbers {
			n.check(t, status, metrics, seen)
		}
		for name := range metrics {
			if counted(name) && !seen[name] {
				t.Errorf("%s = %v is not on the page", name, metrics[name])
			}
		}
		t.Logf("%d numbers, of %d series", len(numbers), len(seen))
		if len(numbers) < 100 {
			t.Errorf("only %d numbers", len(numbers))
		}
	}
}

// counted reports whether a metric is one that the page has as a number.
func counted(name string) bool {
	return slices.ContainsFunc([]string{"sessions_total", "sessions", "handshakes_total", "messages_total", "bytes_total", "violations_total",
		"backend_up", "config_reloads_total", "certificate_renewals_total", "certificate_not_after_seconds", "ready"},
		func(metric string) bool { name, _, _ := strings.Cut(name, "{"); return name == "smtpseal_"+metric })
}

func (n *shownNumber) check(t *testing.T, status any, metrics series, seen map[string]bool) {
	t.Helper()
	want := strconv.FormatFloat(sumAt(status, strings.Split(n.Status, ".")), 'f', -1, 64)
	if n.Tag != "time" && n.Value != want {
		t.Errorf("%s: the page says %s, /status %s", n.Status, n.Value, want)
	}
	if n.Metric == "" {
		return
	}
	var labels map[string]string
	if err := json.Unmarshal([]byte(n.Labels), &labels); err != nil {
		t.Fatalf("%s: %v", n.Labels, err)
	}
	sum := 0.0
	for name, value := range metrics {
		if fits(name, n.Metric, labels) {
			sum += value
			seen[name] = true
		}
	}
	if n.Tag == "time" {
		end, err := time.Parse(time.RFC3339, n.Value)
		want = strconv.FormatInt(end.Unix(), 10)
		if err != nil {
			t.Errorf("%s: %v", n.Status, err)
		}
	}
	if got := strconv.FormatFloat(sum, 'f', -1, 64); got != want {
		t.Errorf("%s%s: the page says %s, /metrics %s", n.Metric, n.Labels, want, got)
	}
}

// fits reports whether a series has a name and all these labels.
func fits(series, metric string, labels map[string]string) bool {
	name, have, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	if name != metric {
		return false
	}
	for label, value := range labels {
		if !strings.Contains(","+have+",", fmt.Sprintf(",%s=%q,", label, value)) {
			return false
		}
	}
	return true
}

// sumAt follows a path into a JSON value and adds up all numbers below. Yes is 1.
func sumAt(value any, path []string) (sum float64) {
	if len(path) > 0 && path[0] != "*" {
		switch v := value.(type) {
		case map[string]any:
			return sumAt(v[path[0]], path[1:])
		case []any:
			if i, err := strconv.Atoi(path[0]); err == nil && i < len(v) {
				return sumAt(v[i], path[1:])
			}
		}
		return 0
	}
	rest := path[min(len(path), 1):]
	switch v := value.(type) {
	case float64:
		return v
	case bool:
		if v {
			return 1
		}
	case map[string]any:
		for _, item := range v {
			sum += sumAt(item, rest)
		}
	case []any:
		for _, item := range v {
			sum += sumAt(item, rest)
		}
	}
	return sum
}

// A backend that goes is on the page within a second, and so is its return.
func TestStatusPageShowsABackendGo(t *testing.T) {
	config := mta.Config{Proxy: mta.V2}
	srv := mta.Start(t, config)
	config.Addr = srv.Addr()
	p := start(t, setup{Server: srv.Addr(), Backend: "health: {interval: 100ms, fall: 1, rise: 1}"})
	tab := chromium.Start(t, nil).Open(t, "http://"+p.admin+"/", chromium.Look{})
	const headline = `document.querySelector("h1").textContent`
	tab.Wait(t, headline+` === "Mail flows"`)
	late := 0
	note := func(what string, took time.Duration) {
		t.Logf("%s: seen after %v", what, took.Round(time.Millisecond))
		if took > time.Second {
			late++
		}
	}
	for range 3 {
		srv.Close()
		note("gone", tab.Wait(t, headline+`.startsWith("Mail does not flow: backend mta is down: ") && document.querySelector(".badge.bad") !== null`))
		srv = mta.Start(t, config)
		note("back", tab.Wait(t, headline+` === "Mail flows" && document.querySelector(".badge.bad") === null`))
	}
	if late > 1 { // once the machine may have been busy
		t.Errorf("%d of 6 changes took longer than a second to be seen", late)
	}
}

// A page from elsewhere changes nothing, by whichever name it knows us.
func TestForeignPageChangesNothing(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mta.Start(t, mta.Config{Proxy: mta.V2}).Addr()})
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><title>foreign</title><iframe name=hole></iframe>
<form id=form method=post target=hole action="http://%s/drain"><input name=%s value=1></form>`, p.admin, admin.RequestHeader)
	}))
	defer foreign.Close()
	browser := chromium.Start(t, map[string]string{"evil.example": foreign.Listener.Addr().String(), "rebound.example": p.admin})
	const attempt = `Promise.all(["cors", "no-cors"].flatMap(mode => ["/drain", "/reload"].map(path =>
		fetch(%q + path, {method: "POST", mode, headers: {%q: "1"}}).then(r => r.type === "opaque" ? 0 : r.status, () => 0))))`
	tab := browser.Open(t, "http://evil.example/", chromium.Look{})
	tab.Eval(t, `form.submit()`, nil)
	var answers []int
	tab.Eval(t, fmt.Sprintf(attempt, "http://"+p.admin, admin.RequestHeader), &answers)
	if !slices.Equal(answers, []int{0, 0, 0, 0}) {
		t.Errorf("a foreign page is answered %v", answers)
	}
	// A name that was made to point at us is same-origin to us, for the browser. It
	// gets no page to start from, and what a page of its own would send is refused.
	var body string
	browser.Open(t, "http://rebound.example/", chromium.Look{}).Eval(t, "document.body.textContent", &body)
	if !strings.HasPrefix(body, `refused: the request's Host is "rebound.example"`) {
		t.Errorf("a rebound name is shown %.200s", body)
	}
	for _, path := range []string{"/drain", "/reload"} {
		code, answer := p.request(t, http.MethodPost, path, map[string]string{"Host": "rebound.example", admin.RequestHeader: "1", "Origin": "http://rebound.example"})
		if code != http.StatusForbidden {
			t.Errorf("%s by a rebound name: %d %s", path, code, answer)
		}
	}
	if status := p.statusNow(t); status.State != admin.Ready || status.Reloads.OK+status.Reloads.Failed > 0 {
		t.Errorf("state %s, reloads %+v", status.State, status.Reloads)
	}
	p.wait("a refusal in the log", func() bool { return p.find("admin request refused", nil) != nil })
}
