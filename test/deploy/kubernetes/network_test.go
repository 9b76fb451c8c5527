package kubernetes

import (
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// selectors demands that everything that selects pods selects this one, but for
// the policy of the mail server behind a gateway.
func (s *set) selectors(t *testing.T) {
	for _, service := range s.services {
		selects(t, "Service "+service.Name, service.Spec.Selector, s.pod.Labels)
		if service.Namespace != s.at {
			t.Errorf("Service %s is in %s, the pod in %s", service.Name, service.Namespace, s.at)
		}
	}
	for _, b := range s.budgets {
		selects(t, "PodDisruptionBudget", b.Spec.Selector.MatchLabels, s.pod.Labels)
	}
	for _, c := range s.pod.Spec.TopologySpreadConstraints {
		selects(t, "spread over "+c.TopologyKey, c.LabelSelector.MatchLabels, s.pod.Labels)
	}
	for _, p := range s.policies {
		if p.Namespace == s.at {
			selects(t, "NetworkPolicy", p.Spec.PodSelector.MatchLabels, s.pod.Labels)
			continue
		}
		for _, rule := range p.Spec.Ingress {
			if len(rule.From) != 1 || rule.From[0].PodSelector == nil || rule.From[0].NamespaceSelector == nil {
				t.Fatalf("NetworkPolicy %s lets in %+v", p.Name, rule.From)
			}
			selects(t, "NetworkPolicy "+p.Name, rule.From[0].PodSelector.MatchLabels, s.pod.Labels)
			selects(t, "NetworkPolicy "+p.Name, rule.From[0].NamespaceSelector.MatchLabels, map[string]string{core.LabelMetadataName: s.at})
		}
	}
	if s.mta() == nil && (s.replicas < 2 || len(s.budgets) != 1 || len(s.pod.Spec.TopologySpreadConstraints) == 0) {
		t.Errorf("a gateway of %d, %d budgets, %d spreads", s.replicas, len(s.budgets), len(s.pod.Spec.TopologySpreadConstraints))
	}
}

// ports demands that every port has a name, that what is named is there, and that
// everybody's Service keeps the client's address.
func (s *set) ports(t *testing.T) {
	numbers := map[string]int32{}
	for _, p := range s.seal(t).Ports {
		if p.Name == "" || numbers[p.Name] != 0 {
			t.Errorf("port %+v", p)
		}
		numbers[p.Name] = p.ContainerPort
	}
	outside := 0
	for _, service := range s.services {
		for _, p := range service.Spec.Ports {
			if p.Name == "" || p.TargetPort.Type != intstr.String || numbers[p.TargetPort.StrVal] != p.Port {
				t.Errorf("Service %s: port %+v, where the container has %v", service.Name, p, numbers)
			}
			if admin := p.TargetPort.StrVal == "admin"; admin != (service.Spec.Type != core.ServiceTypeLoadBalancer) {
				t.Errorf("Service %s, a %s, has %s", service.Name, service.Spec.Type, p.TargetPort.StrVal)
			}
		}
		if service.Spec.Type == core.ServiceTypeLoadBalancer {
			outside++
			local := service.Spec.ExternalTrafficPolicy == core.ServiceExternalTrafficPolicyLocal
			if local == s.behindProxy(t) {
				t.Errorf("Service %s: %s, and accept_proxy %t", service.Name, service.Spec.ExternalTrafficPolicy, s.behindProxy(t))
			}
		}
	}
	if outside != 1 {
		t.Errorf("%d Services for the outside", outside)
	}
}

// doors demands that the policies let everybody to the mail ports alone, and
// nobody but smtpseal to the mail server's.
func (s *set) doors(t *testing.T) {
	ours := 0
	for _, p := range s.policies {
		if !slices.Equal(p.Spec.PolicyTypes, []networking.PolicyType{networking.PolicyTypeIngress}) {
			t.Errorf("%s: %v", p.Name, p.Spec.PolicyTypes)
		}
		if p.Namespace == s.at {
			ours++
		}
		for _, rule := range p.Spec.Ingress {
			if len(rule.Ports) == 0 {
				t.Errorf("%s: a rule for every port", p.Name)
			}
			for _, port := range rule.Ports {
				private := port.Port.StrVal == "admin" || port.Port.Type == intstr.Int
				if private != (len(rule.From) > 0) {
					t.Errorf("%s: port %s from %v", p.Name, port.Port, rule.From)
				}
				if known := s.named(t, port.Port.StrVal); port.Port.Type == intstr.String && !known {
					t.Errorf("%s: no port %s", p.Name, port.Port)
				}
			}
		}
	}
	if ours != 1 {
		t.Errorf("%d policies for smtpseal", ours)
	}
	if s.mta() == nil && len(s.policies) != 2 {
		t.Error("none for the mail server")
	}
}

func (s *set) named(t *testing.T, port string) bool {
	return slices.ContainsFunc(s.seal(t).Ports, func(p core.ContainerPort) bool { return p.Name == port })
}
