package observability

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"gopkg.in/yaml.v3"
)

// A ruleFile is what a test must know of Prometheus' rules.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file ruleFile
	decoder := yaml.NewDecoder(strings.NewReader(read(t, deployed, "alerts.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// A dashboard is what a test must know of Grafana's.
type dashboard struct {
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct{ Name, Definition string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			Expr, LegendFormat string
			Datasource         struct{ UID string }
		}
	}
}

func grafana(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, deployed, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// families are the metrics of a smtpseal to which every visit was made.
func families(t *testing.T, p *process) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(p.metrics(t)))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A vocabulary is what may be said: every name of a series with its labels, and
// the values that a label is known to have.
type vocabulary struct {
	labels map[string][]string
	values map[string][]string // by label
}

// given are the labels that Prometheus adds.
var given = []string{"job", "instance", "pod"}

func vocabularyOf(all map[string]*dto.MetricFamily, records []rule) vocabulary {
	v := vocabulary{map[string][]string{"up": nil}, map[string][]string{}}
	for name, family := range all {
		var labels []string
		for _, m := range family.Metric {
			for _, l := range m.Label {
				labels = append(labels, l.GetName())
				v.values[l.GetName()] = append(v.values[l.GetName()], l.GetValue())
			}
		}
		v.labels[name] = labels
		if family.GetType() == dto.MetricType_HISTOGRAM {
			delete(v.labels, name) // which is no series
			v.labels[name+"_bucket"] = append(labels, "le")
			v.labels[name+"_sum"], v.labels[name+"_count"] = labels, labels
		}
	}
	for _, r := range records {
		if r.Record != "" {
			v.labels[r.Record] = []string{"listener"}
		}
	}
	return v
}

var (
	quotation = regexp.MustCompile(`"[^"]*"`)
	selector  = regexp.MustCompile(`([a-z][a-z0-9_]*:?[a-z0-9_:]*)\{([^}]*)\}`)
	matcher   = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping  = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	word      = regexp.MustCompile(`\b[a-z][a-z0-9_:]*\b`)
	span      = regexp.MustCompile(`\[[^\]]*\]|\boffset \w+`)
	legend    = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
	closed    = []string{"outcome", "phase", "kind", "result", "direction"} // labels whose values are all there from the start
)

// spoken are the words of PromQL that the rules and panels use. A metric that
// is not there cannot hide as one of them.
var spoken = strings.Fields(`sum min max count sort rate increase changes absent clamp_min time histogram_quantile and or unless label_values`)

// check names what an expression says that does not exist.
func (v vocabulary) check(expr string) (wrong []string) {
	names := map[string]bool{}
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(v.labels[found[1]], m[1]) && !slices.Contains(given, m[1]) {
				wrong = append(wrong, fmt.Sprintf("%s has no label %s", found[1], m[1]))
			}
			if !slices.Contains(closed, m[1]) {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if !slices.Contains(v.values[m[1]], value) {
					wrong = append(wrong, fmt.Sprintf("%s is never %q", m[1], value))
				}
			}
		}
	}
	bare := span.ReplaceAllString(regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(quotation.ReplaceAllString(expr, `""`), ""), "")
	bare = grouping.ReplaceAllString(bare, "")
	for _, name := range word.FindAllString(bare, -1) {
		if _, known := v.labels[name]; known {
			names[name] = true
		} else if !slices.Contains(spoken, name) && !regexp.MustCompile(`^(listener|instance)$`).MatchString(name) {
			wrong = append(wrong, "there is no "+name)
		}
	}
	var labels []string
	for name := range names {
		labels = append(labels, v.labels[name]...)
	}
	for _, found := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, label := range word.FindAllString(found[2], -1) {
			if !slices.Contains(labels, label) && !slices.Contains(given, label) {
				wrong = append(wrong, fmt.Sprintf("%s (%s): no such label", found[1], label))
			}
		}
	}
	return wrong
}

// metricsOf are the names of ours in an expression.
func metricsOf(expr string) []string {
	return regexp.MustCompile(`smtpseal_\w+`).FindAllString(quotation.ReplaceAllString(expr, ""), -1)
}

// TestNames holds every rule and panel against the program, and demands that no
// metric of the program is without a panel.
func TestNames(t *testing.T) {
	t.Parallel()
	p := start(t, "json")
	p.visitAll(t, visits...)
	all := families(t, p)
	v := vocabularyOf(all, rules(t))

	for _, r := range rules(t) {
		for _, wrong := range v.check(r.Expr) {
			t.Errorf("%s%s: %s", r.Alert, r.Record, wrong)
		}
		for _, text := range r.Annotations {
			for _, found := range legend.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(given, found[1]) && !v.has(r.Expr, found[1]) {
					t.Errorf("%s: its text names %s, which its metrics do not have", r.Alert, found[1])
				}
			}
		}
	}

	d, shown := grafana(t), map[string]bool{}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			for _, wrong := range v.check(target.Expr) {
				t.Errorf("panel %s: %s", panel.Title, wrong)
			}
			for _, found := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(given, found[1]) && !v.has(target.Expr, found[1]) {
					t.Errorf("panel %s: its legend names %s", panel.Title, found[1])
				}
			}
			for _, name := range metricsOf(target.Expr) {
				shown[strings.TrimSuffix(name, "_bucket")] = true
			}
		}
	}
	for _, one := range d.Templating.List {
		if one.Definition == "" {
			continue
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(one.Definition, "label_values("), ")")
		expr, label, _ := cutLast(inner, ", ")
		if wrong := v.check(expr); wrong != nil || !slices.Contains(given, label) && !v.has(expr, label) {
			t.Errorf("variable %s: %s: %s", one.Name, one.Definition, wrong)
		}
	}
	for _, one := range d.Annotations.List {
		for _, wrong := range v.check(one.Expr) {
			t.Errorf("annotation %s: %s", one.Expr, wrong)
		}
	}
	for name := range all {
		if strings.HasPrefix(name, "smtpseal_") && !shown[name] {
			t.Errorf("%s is in no panel", name)
		}
	}
	t.Run("panels have data", func(t *testing.T) { panelsHaveData(t, d, all) })
}

// has reports whether a metric of an expression has a label.
func (v vocabulary) has(expr, label string) bool {
	for name, labels := range v.labels {
		if regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).MatchString(expr) && slices.Contains(labels, label) {
			return true
		}
	}
	return false
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// The comparison itself can fail.
func TestCheck(t *testing.T) {
	v := vocabulary{map[string][]string{"smtpseal_a_total": {"kind"}, "smtpseal_b": nil, "listener:smtpseal_c:odds": {"listener"}},
		map[string][]string{"kind": {"junk", "other"}}}
	for expr, want := range map[string]int{
		`sum by (kind) (rate(smtpseal_a_total{kind="junk"}[5m]))`: 0,
		`listener:smtpseal_c:odds > 5 and smtpseal_b == 0`:        0,
		`smtpseal_a{kind="junk"}`:                                 2, // no such metric, so no such label
		`smtpseal_a_total{kind=~"junk|no"}`:                       1,
		`smtpseal_a_total{king="junk"}`:                           1,
		`sum by (listener) (smtpseal_a_total)`:                    1,
		`sum(smtpseal_b_total offset 15m)`:                        1,
		`listener:smtpseal_d:odds`:                                1,
	} {
		if wrong := v.check(expr); len(wrong) != want {
			t.Errorf("%s: %q", expr, wrong)
		}
	}
}

// panelsHaveData has promtool work every panel out on what the program said,
// growing: an alert on its absence must not fire.
func panelsHaveData(t *testing.T, d dashboard, all map[string]*dto.MetricFamily) {
	type alert struct {
		Alert string `yaml:"alert"`
		Expr  string `yaml:"expr"`
	}
	type question struct {
		At    string `yaml:"eval_time"`
		Alert string `yaml:"alertname"`
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$listener", ".*")
	var alerts []alert
	var questions []question
	for _, panel := range d.Panels {
		for i, target := range panel.Targets {
			name := fmt.Sprintf("%s %d", panel.Title, i)
			alerts = append(alerts, alert{name, "absent(" + variables.Replace(target.Expr) + ")"})
			questions = append(questions, question{"10m", name})
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "panels.yaml"), map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": alerts}}})
	write(t, filepath.Join(dir, "test.yaml"), map[string]any{
		"rule_files": []string{"panels.yaml"},
		"tests":      []any{map[string]any{"interval": "1m", "input_series": growing(all), "alert_rule_test": questions}},
	})
	promtool(t, "test", "rules", filepath.Join(dir, "test.yaml"))
	if len(alerts) < 25 {
		t.Errorf("only %d panels are seen", len(alerts))
	}
}

type series struct {
	Series string `yaml:"series"`
	Values string `yaml:"values"`
}

// growing are all series, counters as if the same had happened every minute.
func growing(all map[string]*dto.MetricFamily) (list []series) {
	for name, family := range all {
		for _, m := range family.Metric {
			labels := []string{`job="smtpseal"`, `instance="a"`}
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			add := func(name string, value, step float64, more ...string) {
				list = append(list, series{name + "{" + strings.Join(append(slices.Clone(labels), more...), ",") + "}", fmt.Sprintf("%f+%fx15", value, step)})
			}
			switch {
			case m.Counter != nil:
				add(name, m.Counter.GetValue(), m.Counter.GetValue())
			case m.Gauge != nil:
				add(name, m.Gauge.GetValue(), 0)
			case m.Histogram != nil:
				for _, b := range m.Histogram.Bucket {
					n := float64(b.GetCumulativeCount())
					add(name+"_bucket", n, n, fmt.Sprintf(`le="%g"`, b.GetUpperBound()))
				}
			}
		}
	}
	return list
}

// Every alert has what who is woken by it needs, and promtool's tests see it
// fire.
func TestAlertsAreComplete(t *testing.T) {
	tests, monitoring := read(t, "testdata", "alerts_test.yaml"), read(t, "..", "..", "..", "docs", "monitoring.md")
	names := map[string]bool{}
	for _, r := range rules(t) {
		if r.Record != "" {
			continue
		}
		if names[r.Alert] {
			t.Errorf("%s is there twice", r.Alert)
		}
		names[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if got := slices.Sorted(maps.Keys(r.Annotations)); !slices.Equal(got, []string{"description", "runbook", "summary"}) {
			t.Errorf("%s has the annotations %q", r.Alert, got)
		}
		page, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
		if page != "docs/monitoring.md" || !strings.Contains(strings.ToLower(monitoring), "\n### "+anchor+"\n") {
			t.Errorf("%s: there is no %s", r.Alert, r.Annotations["runbook"])
		}
		if !strings.Contains(tests, `alertname="`+r.Alert+`", alertstate="firing"`) {
			t.Errorf("%s fires in no test", r.Alert)
		}
		if !regexp.MustCompile(`(?s)alert: ` + r.Alert + `\n.*?\n        for: \w+ # `).MatchString(read(t, deployed, "alerts.yaml")) {
			t.Errorf("%s does not say why it waits as long as it does", r.Alert)
		}
	}
}
