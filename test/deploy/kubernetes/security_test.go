package kubernetes

import (
	"testing"

	core "k8s.io/api/core/v1"
)

// allowed asks Pod Security: smtpseal is restricted wherever it runs, a pod is
// what its namespace enforces.
func allowed(t *testing.T, sets map[string]*set) {
	pods := map[string]core.PodTemplateSpec{
		"nothing said": {Spec: core.PodSpec{Containers: []core.Container{{Name: "a"}}}},
	}
	for name, s := range sets {
		pods[name] = s.pod
		alone := *s.pod.DeepCopy()
		alone.Spec.InitContainers, alone.Spec.Containers = nil, []core.Container{s.seal(t)}
		pods[name+" alone"] = alone
	}
	against := asked[map[string]map[string]string](t, pods, "restricted")
	if against["nothing said"]["restricted"] == "" || against["nothing said"]["baseline"] != "" {
		t.Errorf("asked in vain: %v", against["nothing said"])
	}
	for name, s := range sets {
		if why := against[name+" alone"]["restricted"]; why != "" {
			t.Errorf("%s: smtpseal itself: %s", name, why)
		}
		level := s.namespaces[s.at].Labels["pod-security.kubernetes.io/enforce"]
		if _, ours := s.namespaces[s.at]; !ours { // the chart's, which makes no namespace
			level = map[bool]string{true: "baseline", false: "restricted"}[s.mta() != nil]
		}
		if level != "restricted" && (s.mta() == nil || level != "baseline") {
			t.Errorf("%s: the namespace enforces %q", name, level)
		}
		if why := against[name][level]; why != "" {
			t.Errorf("%s: %s: %s", name, level, why)
		}
		confined(t, name, s.seal(t))
	}
}

// confined is what Pod Security does not ask for.
func confined(t *testing.T, name string, c core.Container) {
	t.Helper()
	if sc := c.SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem || len(sc.Capabilities.Add) > 0 {
		t.Errorf("%s: %+v", name, sc)
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || !c.Resources.Limits.Cpu().IsZero() {
		t.Errorf("%s: resources %+v", name, c.Resources)
	}
}
