package admin

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"smtpseal/test/chromium"
)

// An element is one of the page that says what it shows.
type element struct {
	Tag, Text, Value, Status, Metric, Labels string
}

const collect = `[...document.querySelectorAll("main data, main time[data-status]")].map(e => ({
	tag: e.localName, text: e.textContent, value: e.getAttribute("value") ?? e.dateTime,
	status: e.dataset.status ?? "", metric: e.dataset.metric ?? "", labels: e.dataset.labels ?? ""}))`

// compareNumbers holds every number of the page against /status and /metrics,
// and demands that the page has every metric that is not zero.
func compareNumbers(t *testing.T, tab *chromium.Tab, s *site) {
	t.Helper()
	var elements []element
	tab.Eval(t, collect, &elements)
	status, metrics := fetched(t, s)
	shown := map[string]bool{}
	for _, e := range elements {
		if e.Status == "" {
			t.Errorf("%+v does not say where it is in /status", e)
			continue
		}
		want, ok := find(status, strings.Split(e.Status, "."))
		if e.Tag == "time" {
			if want != e.Value {
				t.Errorf("%s: the page says %s, /status %v", e.Status, e.Value, want)
			}
		} else if got, err := strconv.ParseFloat(e.Value, 64); err != nil || !ok || got != want || !shows(e.Text, e.Value) {
			t.Errorf("%s: the page says %s (%s), /status %v", e.Status, e.Value, e.Text, want)
		}
		if e.Metric == "" {
			continue
		}
		labels := map[string]string{}
		if e.Labels != "" && json.Unmarshal([]byte(e.Labels), &labels) != nil {
			t.Errorf("labels %s", e.Labels)
		}
		total, series := sumOf(metrics[e.Metric], labels)
		for _, one := range series {
			shown[e.Metric+one] = true
		}
		if n, ok := want.(float64); len(series) == 0 && e.Value != "0" || ok && n != total {
			t.Errorf("%s%s: the page says %s, /metrics %v", e.Metric, e.Labels, e.Value, total)
		}
	}
	inWords := []string{"smtpseal_build_info", "smtpseal_certificate_problem", "smtpseal_draining", "smtpseal_backend_open_relay",
		"smtpseal_config_last_reload_ok"}
	for name, family := range metrics {
		if family.GetType() == dto.MetricType_HISTOGRAM || slices.Contains(inWords, name) ||
			strings.HasPrefix(name, "smtpseal_certificate_") { // where one name has several it is not the page's
			continue
		}
		for _, m := range family.Metric {
			if value(m) != 0 && !shown[name+m.String()] {
				t.Errorf("%s{%v} is not on the page", name, m.Label)
			}
		}
	}
	if len(elements) < 10 && len(s.now().Listeners) > 0 {
		t.Errorf("only %d numbers", len(elements))
	}
}

func fetched(t *testing.T, s *site) (status any, metrics map[string]*dto.MetricFamily) {
	t.Helper()
	_, text := s.ask(t, "GET", "/status")
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	_, text = s.ask(t, "GET", "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	metrics, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name := range metrics {
		if !strings.HasPrefix(name, "smtpseal_") {
			delete(metrics, name)
		}
	}
	return status, metrics
}

// find follows a path; * is every element. Numbers are added up, yes is 1.
func find(value any, path []string) (any, bool) {
	if len(path) > 0 && path[0] == "*" || len(path) == 0 {
		rest := path[min(len(path), 1):]
		switch v := value.(type) {
		case []any:
			sum := 0.0
			for _, item := range v {
				n, _ := find(item, rest)
				sum += n.(float64)
			}
			return sum, true
		case map[string]any:
			sum := 0.0
			for _, item := range v {
				n, _ := find(item, rest)
				sum += n.(float64)
			}
			return sum, true
		case bool:
			return truth(v), true
		}
		return value, true
	}
	switch v := value.(type) {
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(v) {
			return nil, false
		}
		return find(v[i], path[1:])
	case map[string]any:
		item, ok := v[path[0]]
		if !ok {
			return nil, false
		}
		return find(item, path[1:])
	}
	return nil, false
}

// shows reports whether a text is its value as people write it.
func shows(text, value string) bool {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return false
	}
	if c := (Certificate{DaysLeft: int(n)}); text == c.Days() {
		return true
	}
	words := map[int64][]string{0: {"down", "not ready"}, 1: {"up", "ready", "not asked yet"}}
	return text == count(n) || text == bytesText(n) || slices.Contains(words[n], text)
}

// sumOf adds up all series that have these labels.
func sumOf(family *dto.MetricFamily, labels map[string]string) (sum float64, series []string) {
	for _, m := range family.GetMetric() {
		has := map[string]string{}
		for _, l := range m.Label {
			has[l.GetName()] = l.GetValue()
		}
		fits := true
		for name, want := range labels {
			fits = fits && has[name] == want
		}
		if fits {
			sum += value(m)
			series = append(series, m.String())
		}
	}
	return sum, series
}

func value(m *dto.Metric) float64 { return m.GetCounter().GetValue() + m.GetGauge().GetValue() }

// The comparison itself can fail.
func TestFind(t *testing.T) {
	var status any
	json.Unmarshal([]byte(`{"a": [{"b": {"x": 1, "y": 2}}, {"b": {"x": 4}}], "ready": true}`), &status)
	for path, want := range map[string]any{"a.0.b.x": 1.0, "a.0.b": 3.0, "a.*.b": 7.0, "ready": 1.0, "a.2.b": nil, "a.0.c": nil} {
		if got, _ := find(status, strings.Split(path, ".")); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
