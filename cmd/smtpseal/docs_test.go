package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"

	"smtpseal/config"
	"smtpseal/proxy"
)

// page is a text of the documentation; section is what stands below a heading
// of it.
func page(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, below, found := strings.Cut(text, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no %q", heading)
	}
	text, _, _ = strings.Cut(below, "\n## ")
	return text
}

var code = regexp.MustCompile("`([^`]+)`")

// quoted are the names in code type.
func quoted(text string) (all []string) {
	for _, found := range code.FindAllStringSubmatch(text, -1) {
		all = append(all, found[1])
	}
	return all
}

// rows are those of the tables in a text, by each name in the first column.
func rows(text string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(text) {
		if cells := strings.Split(strings.Trim(line, "| \n"), "|"); strings.HasPrefix(line, "| `") {
			for _, name := range quoted(cells[0]) {
				all[name] = cells
			}
		}
	}
	return all
}

// What is told of metrics is a contract: people write alerts with them.
func TestMetricsAreAsTheyAreDocumented(t *testing.T) {
	documented := rows(section(t, page(t, "docs", "operating.md"), "Metrics"))
	for name, family := range ownMetrics(t) {
		row := documented[name]
		delete(documented, name)
		if row == nil {
			t.Errorf("%s is not documented", name)
			continue
		}
		if got, want := quoted(row[1]), labels(family); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("%s: documented with the labels %q, has %q", name, got, want)
		}
		kind := strings.ToLower(family.GetType().String())
		if !strings.HasPrefix(strings.TrimSpace(row[2]), kind) {
			t.Errorf("%s: documented as %q, is a %s", name, row[2], kind)
		}
	}
	for name := range documented {
		t.Errorf("%s is documented, but not there", name)
	}
}

// ownMetrics are those of a running smtpseal that has had a session.
func ownMetrics(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	backend, _ := startMTA(t)
	r := &running{port: free(t), storage: t.TempDir()}
	admin := free(t)
	file := strings.Replace(settings(r.port, backend, internalIn(r.storage)), "listen: off", fmt.Sprintf("listen: %q", admin), 1)
	c, err := config.Load(write(t, "metrics.yaml", file))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(sessionsEnded, 1)
	s, err := start(t.Context(), c, outside{log: zap.NewNop(), observers: []proxy.Observer{ended}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop(t.Context())
	if err := r.client(t).SendTLS(t.Context(), r.port, demoMail("465", time.Now())); err != nil {
		t.Fatal(err)
	}
	<-ended
	answer, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "smtpseal_") })
	return families
}

// labels of a family are the same on each of its metrics.
func labels(family *dto.MetricFamily) (names []string) {
	for _, label := range family.GetMetric()[0].GetLabel() {
		names = append(names, label.GetName())
	}
	slices.Sort(names)
	return names
}

func TestTheLogIsDocumentedWhole(t *testing.T) {
	section := section(t, page(t, "docs", "operating.md"), "The log")
	documented := rows(section)
	for _, outcome := range proxy.Outcomes {
		if documented[string(outcome)] == nil {
			t.Errorf("the outcome %s is not documented", outcome)
		}
	}
	for _, kind := range proxy.ViolationKinds {
		if documented[kind] == nil {
			t.Errorf("the violation %s is not documented", kind)
		}
	}
	for _, phase := range proxy.Phases {
		if !slices.Contains(quoted(section), string(phase)) {
			t.Errorf("the phase %s is not documented", phase)
		}
	}
}

func TestTheREADMEHasEveryCommand(t *testing.T) {
	documented := rows(section(t, page(t, "README.md"), "Commands"))
	for _, c := range (program{}).root().Commands() {
		if name := "smtpseal " + c.Name(); documented[name] == nil {
			t.Errorf("%s is not in the README", name)
		}
		delete(documented, "smtpseal "+c.Name())
	}
	for name := range documented {
		t.Errorf("the README has %s, which is no command", name)
	}
}
