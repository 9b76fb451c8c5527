package observability

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// ruleHead stands before the groups of prometheusrule.yaml.
const ruleHead = `# alerts.yaml for the Prometheus operator. Not to be edited: change alerts.yaml,
# then go test ./test/deploy/observability -run PrometheusRule -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: smtpseal
  namespace: smtpseal
  labels: {app.kubernetes.io/name: smtpseal}
spec:
`

// TestPrometheusRule: the operator gets the same rules as everybody.
func TestPrometheusRule(t *testing.T) {
	_, groups, found := strings.Cut(read(t, deployed, "alerts.yaml"), "\ngroups:\n")
	if !found {
		t.Fatal("alerts.yaml has no groups")
	}
	var want strings.Builder
	want.WriteString(ruleHead)
	for line := range strings.Lines("groups:\n" + groups) {
		if line != "\n" {
			want.WriteString("  ")
		}
		want.WriteString(line)
	}
	path := filepath.Join(deployed, "kubernetes", "prometheusrule.yaml")
	if *update {
		if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, path) != want.String() {
		t.Error("prometheusrule.yaml is not as alerts.yaml: write it anew with -update")
	}
}

// An object of Kubernetes, as far as monitors look at it.
type object struct {
	Kind     string
	Metadata struct {
		Name, Namespace string
		Labels          map[string]string
	}
	Spec struct {
		Selector struct {
			MatchLabels      map[string]string `yaml:"matchLabels"`
			MatchExpressions []struct {
				Key, Operator string
				Values        []string
			} `yaml:"matchExpressions"`
		}
		NamespaceSelector struct {
			MatchNames []string `yaml:"matchNames"`
		} `yaml:"namespaceSelector"`
		Endpoints           []endpoint
		PodMetricsEndpoints []endpoint `yaml:"podMetricsEndpoints"`
		Ports               []struct {
			Name string
			Port int
		}
		Template struct {
			Metadata struct{ Labels map[string]string }
		}
	}
}

type endpoint struct {
	Port, Path  string
	Relabelings []struct {
		TargetLabel string `yaml:"targetLabel"`
		Replacement string
	}
}

// selects reports whether a monitor takes an object with these labels.
func (o object) selects(namespace string, labels map[string]string) bool {
	for key, value := range o.Spec.Selector.MatchLabels {
		if labels[key] != value {
			return false
		}
	}
	for _, e := range o.Spec.Selector.MatchExpressions {
		if e.Operator != "In" || !slices.Contains(e.Values, labels[e.Key]) {
			return false
		}
	}
	return slices.Contains(o.Spec.NamespaceSelector.MatchNames, namespace)
}

func objects(t *testing.T, path string) (all []object) {
	t.Helper()
	for decoder := yaml.NewDecoder(strings.NewReader(read(t, path))); ; {
		var loose yaml.Node // a Service's selector has no matchLabels, which is fine
		err := decoder.Decode(&loose)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var o object
		if err := loose.Decode(&o); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, o)
	}
}

// TestMonitors: what Prometheus is told to scrape is there, under the port that
// deploy/kubernetes gives it, and each pod once.
func TestMonitors(t *testing.T) {
	service := objects(t, filepath.Join(deployed, "kubernetes", "servicemonitor.yaml"))[0]
	pod := objects(t, filepath.Join(deployed, "kubernetes", "podmonitor.yaml"))[0]
	for _, e := range slices.Concat(service.Spec.Endpoints, pod.Spec.PodMetricsEndpoints) {
		if e.Port != "admin" || e.Path != "/metrics" {
			t.Errorf("%+v", e)
		}
		if len(e.Relabelings) != 1 || e.Relabelings[0].TargetLabel != "job" || e.Relabelings[0].Replacement != "smtpseal" {
			t.Errorf("the alerts do not know the job: %+v", e.Relabelings)
		}
	}
	for _, kind := range []string{"gateway", "sidecar"} {
		base := filepath.Join("..", "..", "..", "deploy", "kubernetes", kind, "base")
		var taken []string
		for _, o := range objects(t, filepath.Join(base, "service.yaml")) {
			if o.Kind != "Service" || !service.selects(o.Metadata.Namespace, o.Metadata.Labels) {
				continue
			}
			for _, port := range o.Spec.Ports {
				if port.Name == service.Spec.Endpoints[0].Port && port.Port == 9465 {
					taken = append(taken, o.Metadata.Name)
				}
			}
		}
		if len(taken) != 1 {
			t.Errorf("%s: the ServiceMonitor scrapes the Services %q, want one", kind, taken)
		}
		workloads, _ := filepath.Glob(filepath.Join(base, "*set.yaml"))
		if kind == "gateway" {
			workloads = []string{filepath.Join(base, "deployment.yaml")}
		}
		for _, path := range workloads {
			o := objects(t, path)[0]
			if !pod.selects(o.Metadata.Namespace, o.Spec.Template.Metadata.Labels) {
				t.Errorf("%s: the PodMonitor does not scrape its pods", path)
			}
			if !strings.Contains(read(t, path), "{name: admin, containerPort: 9465}") {
				t.Errorf("%s: no port admin", path)
			}
		}
		if len(workloads) != 1 {
			t.Errorf("%s: %q", kind, workloads)
		}
	}
}

// No two panels are in one place, none has the number of another, and each asks
// the data source that is chosen above.
func TestDashboard(t *testing.T) {
	ids := map[int]bool{}
	type square struct{ x, y int }
	covered := map[square]string{}
	for _, p := range grafana(t).Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := square{p.GridPos.X + x, p.GridPos.Y + y}
				if covered[at] != "" || at.x >= 24 {
					t.Errorf("%s: covers %s, or the edge", p.Title, covered[at])
				}
				covered[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s asks %q", p.Title, target.Datasource.UID)
			}
		}
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%s shows nothing", p.Title)
		}
	}
}
