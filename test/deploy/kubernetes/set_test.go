package kubernetes

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A set is what one overlay, or the chart with some values, comes to.
type set struct {
	text    string
	objects []object

	namespaces map[string]core.Namespace
	configs    map[string]core.ConfigMap // by name
	pod        core.PodTemplateSpec
	at         string // the pod's namespace
	replicas   int32
	services   []core.Service
	policies   []networking.NetworkPolicy
	budgets    []policy.PodDisruptionBudget
	roles      []rbac.Role
	bindings   []rbac.RoleBinding
	accounts   []core.ServiceAccount
}

// An object is any of them.
type object struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	text            []byte // JSON
}

// parse sorts them by kind. One that it does not know is a mistake here: nobody
// would look at it.
func parse(t *testing.T, text string) *set {
	t.Helper()
	s := &set{text: text, namespaces: map[string]core.Namespace{}, configs: map[string]core.ConfigMap{}}
	documents := yaml.NewDecoder(strings.NewReader(text))
	for {
		var content map[string]any
		err := documents.Decode(&content)
		if errors.Is(err, io.EOF) {
			return s
		}
		must(t, err)
		if content == nil {
			continue
		}
		var o object
		o.text, err = json.Marshal(content)
		must(t, err)
		must(t, json.Unmarshal(o.text, &o))
		s.objects = append(s.objects, o)
		s.sort(t, o)
	}
}

func (s *set) sort(t *testing.T, o object) {
	t.Helper()
	switch o.Kind {
	case "Namespace":
		s.namespaces[o.Name] = as[core.Namespace](t, o)
	case "ConfigMap":
		s.configs[o.Name] = as[core.ConfigMap](t, o)
	case "Service":
		s.services = append(s.services, as[core.Service](t, o))
	case "NetworkPolicy":
		s.policies = append(s.policies, as[networking.NetworkPolicy](t, o))
	case "PodDisruptionBudget":
		s.budgets = append(s.budgets, as[policy.PodDisruptionBudget](t, o))
	case "Role":
		s.roles = append(s.roles, as[rbac.Role](t, o))
	case "RoleBinding":
		s.bindings = append(s.bindings, as[rbac.RoleBinding](t, o))
	case "ServiceAccount":
		s.accounts = append(s.accounts, as[core.ServiceAccount](t, o))
	case "Deployment":
		d := as[apps.Deployment](t, o)
		s.pod, s.at, s.replicas = d.Spec.Template, d.Namespace, *d.Spec.Replicas
		selects(t, "Deployment", d.Spec.Selector.MatchLabels, s.pod.Labels)
	case "StatefulSet":
		d := as[apps.StatefulSet](t, o)
		s.pod, s.at, s.replicas = d.Spec.Template, d.Namespace, *d.Spec.Replicas
		selects(t, "StatefulSet", d.Spec.Selector.MatchLabels, s.pod.Labels)
	case "Certificate":
	default:
		t.Errorf("no test knows a %s", o.Kind)
	}
}

func as[T any](t *testing.T, o object) (typed T) {
	t.Helper()
	must(t, json.Unmarshal(o.text, &typed))
	return typed
}

// selects demands that labels are selected, and by more than nothing.
func selects(t *testing.T, what string, selector, labels map[string]string) {
	t.Helper()
	if len(selector) == 0 {
		t.Errorf("%s selects everything", what)
	}
	for key, value := range selector {
		if labels[key] != value {
			t.Errorf("%s selects %s=%s, and the pod has %q", what, key, value, labels[key])
		}
	}
}

// seal is smtpseal's container.
func (s *set) seal(t *testing.T) core.Container {
	t.Helper()
	for _, c := range append(s.pod.Spec.InitContainers, s.pod.Spec.Containers...) {
		if c.Name == "smtpseal" {
			return c
		}
	}
	t.Fatal("no container smtpseal")
	return core.Container{}
}

// mta is the mail server's container, if it is in the pod.
func (s *set) mta() *core.Container {
	if len(s.pod.Spec.InitContainers) == 0 {
		return nil
	}
	return &s.pod.Spec.Containers[0]
}
