package kubernetes

import (
	"reflect"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

// drainGrace is what smtpseal drain allows an end beside the sessions.
const drainGrace = 15 * time.Second

// life demands that at the deletion of a pod nobody is killed before he has had
// his time.
func (s *set) life(t *testing.T) {
	seal := s.seal(t)
	if s.pod.Spec.TerminationGracePeriodSeconds == nil || seal.Lifecycle == nil || seal.Lifecycle.PreStop == nil {
		t.Fatal("no grace, or no preStop")
	}
	grace := time.Duration(*s.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	shutdown := s.settings(t).Timeouts.Shutdown
	before := seal.Lifecycle.PreStop
	mta := s.mta()
	if mta == nil { // TERM drains, when nobody sends clients any more
		if before.Sleep == nil || before.Sleep.Seconds < 5 || grace < time.Duration(before.Sleep.Seconds)*time.Second+shutdown+10*time.Second {
			t.Errorf("grace %s, preStop %+v, shutdown %s", grace, before, shutdown)
		}
		return
	}
	if before.Exec == nil || !reflect.DeepEqual(before.Exec.Command, []string{"/usr/bin/smtpseal", "drain"}) {
		t.Errorf("preStop %+v", before)
	}
	if always := core.ContainerRestartPolicyAlways; seal.RestartPolicy == nil || *seal.RestartPolicy != always {
		t.Error("no sidecar: its pod would never start")
	}
	if mta.Lifecycle == nil || mta.Lifecycle.PreStop == nil || mta.Lifecycle.PreStop.Sleep == nil {
		t.Fatalf("the mail server does not wait for the drain: %+v", mta.Lifecycle)
	}
	waits := time.Duration(mta.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if waits < shutdown+drainGrace || grace < waits+10*time.Second {
		t.Errorf("shutdown %s, the mail server waits %s, grace %s", shutdown, waits, grace)
	}
}

// probes demands that only an answer is asked for where the answer is a restart,
// or the start of the mail server.
func (s *set) probes(t *testing.T) {
	c := s.seal(t)
	for path, probes := range map[string][]*core.Probe{"/livez": {c.StartupProbe, c.LivenessProbe}, "/readyz": {c.ReadinessProbe}} {
		for _, p := range probes {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Port.StrVal != "admin" || len(p.HTTPGet.HTTPHeaders) > 0 {
				t.Errorf("%s: %+v", path, p)
			}
		}
	}
}
