package kubernetes

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
)

// Settings are what is looked at of the effective configuration.
type settings struct {
	Listeners []struct {
		Listen      []string
		AcceptProxy []string `yaml:"accept_proxy"`
	}
	Backends map[string]struct {
		Servers       []string
		ProxyProtocol string `yaml:"proxy_protocol"`
		RelayCheck    string `yaml:"relay_check"`
	}
	Certificates []struct {
		CertFile string `yaml:"cert_file"`
	}
	ACME struct {
		Challenges []string
		HTTPListen []string `yaml:"http_listen"`
	}
	Storage  struct{ Type, Namespace string }
	Timeouts struct{ Shutdown time.Duration }
	Admin    struct{ Listen []string }
}

// mounted are the directories of smtpseal's container, with the volumes there.
func (s *set) mounted(t *testing.T) map[string]core.Volume {
	t.Helper()
	all := map[string]core.Volume{}
	for _, m := range s.seal(t).VolumeMounts {
		for _, v := range s.pod.Spec.Volumes {
			if v.Name == m.Name {
				all[m.MountPath] = v
			}
		}
		if m.SubPath != "" || !m.ReadOnly {
			t.Errorf("%s: with subPath %q, and read-only %t", m.MountPath, m.SubPath, m.ReadOnly)
		}
	}
	return all
}

// file is the configuration, with the directories that are mounted in places of
// this machine.
func (s *set) file(t *testing.T) string {
	t.Helper()
	mounts := s.mounted(t)
	volume := mounts["/etc/smtpseal"].ConfigMap
	if volume == nil {
		t.Fatal("no configuration is mounted")
	}
	text := s.configs[volume.Name].Data["smtpseal.yaml"]
	if text == "" {
		t.Fatalf("no configuration in %q", volume.Name)
	}
	here := t.TempDir()
	for from := range mounts {
		to := filepath.Join(here, from)
		must(t, os.MkdirAll(to, 0o755))
		text = strings.ReplaceAll(text, from+"/", to+"/")
	}
	for name, content := range secrets(t) {
		for from := range mounts {
			must(t, os.WriteFile(filepath.Join(here, from, name), []byte(content), 0o600))
		}
	}
	file := filepath.Join(here, "smtpseal.yaml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func (s *set) settings(t *testing.T) (settings settings) {
	t.Helper()
	out, err := exec.Command(smtpseal, "config", "-c", s.file(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, yaml.Unmarshal(out, &settings))
	return settings
}

func (s *set) behindProxy(t *testing.T) bool {
	listeners := s.settings(t).Listeners
	return len(listeners[0].AcceptProxy) > 0
}

// configuration demands that smtpseal would run with it, and would refuse an
// open relay; that its ports are the container's, and the others' it names are
// there.
func (s *set) configuration(t *testing.T) {
	check := exec.Command(smtpseal, "check", "-c", s.file(t))
	for _, from := range s.seal(t).EnvFrom {
		if from.SecretRef == nil || from.SecretRef.Name != "dns" {
			t.Errorf("environment from %+v", from)
		}
		check.Env = []string{"TOKEN=x"}
	}
	out, err := check.CombinedOutput()
	if err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("%v: %s", err, out)
	}
	c := s.settings(t)
	var listen []string
	for _, l := range c.Listeners {
		listen = append(listen, l.Listen...)
	}
	listen = append(listen, c.Admin.Listen...)
	if slices.Contains(c.ACME.Challenges, "http-01") && s.named(t, "http") {
		listen = append(listen, c.ACME.HTTPListen...)
	}
	var ports []string
	for _, p := range s.seal(t).Ports {
		ports = append(ports, fmt.Sprintf(":%d", p.ContainerPort))
	}
	if slices.Sort(listen); !slices.Equal(listen, slices.Sorted(slices.Values(ports))) {
		t.Errorf("listens on %v, and the container has %v", listen, ports)
	}
	for name, b := range c.Backends {
		host, _, err := net.SplitHostPort(b.Servers[0])
		if loopback := host == "127.0.0.1"; err != nil || loopback != (s.mta() != nil) {
			t.Errorf("backend %s is at %v", name, b.Servers)
		}
		if b.ProxyProtocol == "off" || b.RelayCheck != "refuse" {
			t.Errorf("backend %s: %+v", name, b)
		}
	}
	mounts := s.mounted(t)
	for _, one := range c.Certificates {
		if one.CertFile != "" && !slices.ContainsFunc(slices.Collect(maps.Keys(mounts)), func(dir string) bool { return strings.HasSuffix(path.Dir(one.CertFile), dir) }) {
			t.Errorf("nothing is mounted for %s", one.CertFile)
		}
	}
}

// recipe demands that Postfix, where it is ours to set up, is so by the recipe.
func (s *set) recipe(t *testing.T) {
	for _, c := range s.configs {
		master, ours := c.Data["master.cf"]
		if !ours {
			continue
		}
		want, err := exec.Command(smtpseal, "recipe", "postfix", "-c", s.file(t)).Output()
		must(t, err)
		_, service, _ := strings.Cut(master, "# ---\n")
		service, _, _ = strings.Cut(service, "# ---\n")
		if len(service) < 500 || !strings.Contains(string(want), service) {
			t.Errorf("not the recipe's:\n%s\n%s", service, want)
		}
		if main := c.Data["main.cf"]; !strings.Contains(main, "\nmynetworks =\n") {
			t.Errorf("Postfix trusts somebody:\n%s", main)
		}
	}
}

// volumes demands that every mount has its volume.
func (s *set) volumes(t *testing.T) {
	known := map[string]bool{"queue": true} // of a claim
	for _, v := range s.pod.Spec.Volumes {
		known[v.Name] = true
		if v.ConfigMap != nil && s.configs[v.ConfigMap.Name].Data == nil {
			t.Errorf("no ConfigMap %s", v.ConfigMap.Name)
		}
		if v.HostPath != nil || v.EmptyDir != nil {
			t.Errorf("volume %+v", v)
		}
	}
	for _, c := range append(s.pod.Spec.InitContainers, s.pod.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			if !known[m.Name] {
				t.Errorf("%s: no volume %s", c.Name, m.Name)
			}
		}
	}
}

// rights demands that a token is there for nothing but a storage in Kubernetes,
// for smtpseal alone, and good for nothing but that.
func (s *set) rights(t *testing.T) {
	c, wants := s.settings(t), 0
	if c.Storage.Type == "kubernetes" {
		wants = 1
	}
	if auto := s.pod.Spec.AutomountServiceAccountToken; auto == nil || *auto {
		t.Error("every container gets a token")
	}
	const token = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokens := 0
	for _, container := range append(s.pod.Spec.InitContainers, s.pod.Spec.Containers...) {
		for _, m := range container.VolumeMounts {
			if m.MountPath == token && container.Name == "smtpseal" {
				tokens++
			}
		}
	}
	if tokens != wants || len(s.roles) != wants || len(s.bindings) != wants {
		t.Fatalf("storage %s: %d tokens, %d Roles, %d RoleBindings", c.Storage.Type, tokens, len(s.roles), len(s.bindings))
	}
	if wants == 0 {
		return
	}
	role, binding := s.roles[0], s.bindings[0]
	want := []rbac.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get", "list", "create", "update", "delete"}},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update", "delete"}},
	}
	if !reflect.DeepEqual(role.Rules, want) {
		t.Errorf("rights %+v", role.Rules)
	}
	subject := rbac.Subject{Kind: "ServiceAccount", Name: s.pod.Spec.ServiceAccountName, Namespace: s.at}
	if role.Namespace != c.Storage.Namespace || binding.Namespace != role.Namespace || binding.RoleRef.Name != role.Name || binding.RoleRef.Kind != "Role" || !reflect.DeepEqual(binding.Subjects, []rbac.Subject{subject}) {
		t.Errorf("%+v\n%+v", role.ObjectMeta, binding)
	}
	for _, o := range s.objects { // every Secret there is open to smtpseal
		if o.Namespace == role.Namespace && o.Kind != "Role" && o.Kind != "RoleBinding" {
			t.Errorf("%s %s is in the storage's namespace", o.Kind, o.Name)
		}
	}
	if role.Namespace == s.at || len(s.accounts) != 1 || s.accounts[0].Name != subject.Name {
		t.Errorf("storage in %s, pod in %s, accounts %+v", role.Namespace, s.at, s.accounts)
	}
}
