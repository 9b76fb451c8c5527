package container

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"smtpseal/test/debian"
)

const deploy = tree + "/deploy/container"

// A project is what compose.yaml may have in it; a key that is not here is a
// mistake, or is to be looked at first.
type project struct {
	Name     string
	Services map[string]service
	Networks map[string]*struct {
		Internal bool
		IPAM     struct{ Config []struct{ Subnet string } }
	}
	Volumes map[string]*struct{}
}

type service struct {
	Build    build
	Image    string
	Restart  string
	Hostname string
	Networks map[string]*struct {
		IPv4 string `yaml:"ipv4_address"`
	}
	Ports       []string
	Volumes     []string
	Grace       time.Duration                         `yaml:"stop_grace_period"`
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	ReadOnly    bool                                  `yaml:"read_only"`
	CapDrop     []string                              `yaml:"cap_drop"`
	SecurityOpt []string                              `yaml:"security_opt"`
	Sysctls     map[string]string
}

// A build is a directory, or says more.
type build struct{ Context, Dockerfile string }

func (b *build) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&b.Context)
	}
	type plain build
	return n.Decode((*plain)(b))
}

func composed(t *testing.T) (p project) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, "compose.yaml")))
	decoder.KnownFields(true)
	must(t, decoder.Decode(&p))
	return p
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	must(t, err)
	return string(text)
}

// Nobody but smtpseal reaches Postfix, and Postfix reaches the world.
func TestComposeKeepsOthersOffPostfix(t *testing.T) {
	p := composed(t)
	seal, postfix := p.Services["smtpseal"], p.Services["postfix"]
	if len(p.Services) != 2 || len(postfix.Ports) != 0 {
		t.Errorf("%+v", p.Services)
	}
	for name := range seal.Networks {
		if _, both := postfix.Networks[name]; both != (name == "between") {
			t.Errorf("both are on %s", name)
		}
	}
	for name := range postfix.Networks {
		if network := p.Networks[name]; (network != nil && network.Internal) != (name == "between") {
			t.Errorf("network %s: %+v", name, network)
		}
	}
	if addr := postfix.Networks["between"].IPv4; !strings.Contains(read(t, "smtpseal.yaml"), `"`+addr+`:10025"`) || !strings.Contains(read(t, "postfix/master.cf"), "\n"+addr+":10025 inet") {
		t.Errorf("Postfix is at %s, and somebody else thinks otherwise", addr)
	}
	for _, name := range append(slices.Collect(keys(seal.Networks)), slices.Collect(keys(postfix.Networks))...) {
		if _, known := p.Networks[name]; !known {
			t.Errorf("no network %s", name)
		}
	}
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestComposeMountsWhatIsThere(t *testing.T) {
	p := composed(t)
	for name, s := range p.Services {
		for _, mount := range s.Volumes {
			from, _, _ := strings.Cut(mount, ":")
			if _, declared := p.Volumes[from]; !strings.HasPrefix(from, "./") && !declared {
				t.Errorf("%s: no volume %s", name, from)
			} else if strings.HasPrefix(from, "./") {
				read(t, from)
				if !strings.HasSuffix(mount, ":ro") {
					t.Errorf("%s may write %s", name, from)
				}
			}
		}
		dockerfile := s.Build.Dockerfile
		if dockerfile == "" {
			dockerfile = "Dockerfile"
		}
		read(t, filepath.Join(s.Build.Context, dockerfile))
	}
}

func TestComposeConfinesSmtpseal(t *testing.T) {
	seal := composed(t).Services["smtpseal"]
	if !seal.ReadOnly || !reflect.DeepEqual(seal.CapDrop, []string{"ALL"}) || !slices.Contains(seal.SecurityOpt, "no-new-privileges:true") ||
		seal.Sysctls["net.ipv4.ip_unprivileged_port_start"] != "0" || !slices.Contains(seal.Volumes, "certificates:/var/lib/smtpseal") {
		t.Errorf("%+v", seal)
	}
}

// The configuration is good, the grace is longer than a drain, and Postfix is set
// up as the recipe for it has it.
func TestComposeConfigurations(t *testing.T) {
	file := filepath.Join(deploy, "smtpseal.yaml")
	if out, err := exec.Command(binary, "check", "-c", file).CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("%v: %s", err, out)
	}
	out, err := exec.Command(binary, "config", "-c", file).Output()
	must(t, err)
	var settings struct {
		Timeouts struct{ Shutdown time.Duration }
	}
	must(t, yaml.Unmarshal(out, &settings))
	if grace := composed(t).Services["smtpseal"].Grace; settings.Timeouts.Shutdown <= 0 || grace < settings.Timeouts.Shutdown+10*time.Second {
		t.Errorf("%s to end, of which a drain takes %s", grace, settings.Timeouts.Shutdown)
	}
	recipe, err := exec.Command(binary, "recipe", "postfix", "--from", "172.31.25.3", "-c", file).Output()
	must(t, err)
	_, service, _ := strings.Cut(read(t, "postfix/master.cf"), "# ---\n")
	service, _, _ = strings.Cut(service, "# ---\n")
	if len(service) < 500 || !strings.Contains(string(recipe), service) {
		t.Errorf("not the recipe's:\n%s\n%s", service, recipe)
	}
}

// Postfix's own programs find nothing to complain of in main.cf and master.cf.
func TestPostfixReadsItsFiles(t *testing.T) {
	root, err := debian.Root()
	must(t, err)
	for _, dir := range []string{deploy + "/postfix", tree + "/deploy/kubernetes/sidecar/base/postfix"} {
		conf := t.TempDir()
		for _, name := range []string{"main.cf", "master.cf"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(conf, name), text, 0o644))
		}
		for what, want := range map[string]string{"-n": "mynetworks =\n", "-M": "10025", "-P": "mynetworks"} {
			cmd := exec.Command(filepath.Join(root, "usr/sbin/postconf"), what, "-c", conf)
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+debian.LibraryPath(root, root+"/usr/lib/postfix"))
			var complaints strings.Builder
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			if err != nil || complaints.Len() > 0 || !strings.Contains(string(out), want) {
				t.Errorf("%s: postconf %s: %v, %s\n%s", dir, what, err, &complaints, out)
			}
		}
	}
}
