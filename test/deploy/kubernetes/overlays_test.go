package kubernetes

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// overlays are all that are meant to be applied.
var overlays = []string{"sidecar/cert-manager", "sidecar/acme", "gateway/cert-manager", "gateway/acme", "gateway/proxy-protocol"}

func TestOverlays(t *testing.T) {
	var dirs []string
	for _, overlay := range overlays {
		dirs = append(dirs, filepath.Join(tree, "deploy/kubernetes", overlay))
	}
	built := asked[map[string]string](t, nil, append([]string{"kustomize"}, dirs...)...)
	sets := map[string]*set{}
	for i, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			golden(t, "kustomize-"+strings.ReplaceAll(overlay, "/", "-")+".yaml", built[dirs[i]])
			sets[overlay] = parse(t, built[dirs[i]])
			sets[overlay].inspect(t)
		})
	}
	allowed(t, sets)
	understood(t, sets)
}

// inspect is all that a set of manifests must be, however it was made.
func (s *set) inspect(t *testing.T) {
	s.selectors(t)
	s.ports(t)
	s.doors(t)
	s.life(t)
	s.probes(t)
	s.volumes(t)
	s.configuration(t)
	s.recipe(t)
	s.rights(t)
}

// versions are those of Kubernetes, by the module file of strict.
var versions = map[string]string{"1.35": "v1.35.mod", "1.36": "v1.36.mod", "1.37": "go.mod"}

// understood demands that three versions of Kubernetes decode everything, and
// find no key that they do not know.
func understood(t *testing.T, sets map[string]*set) {
	var all strings.Builder
	for _, s := range sets {
		for _, o := range s.objects {
			if !strings.HasPrefix(o.APIVersion, "cert-manager.io/") {
				all.WriteString("---\n" + string(o.text) + "\n")
			}
		}
	}
	for version, modules := range versions {
		t.Run("Kubernetes "+version, func(t *testing.T) {
			decode(t, modules, all.String(), "")
			decode(t, modules, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"externalTraficPolicy":"Local"}}`, `unknown field "spec.externalTraficPolicy"`)
			decode(t, modules, `{"apiVersion":"v1","kind":"Service","metadata":{"name":1}}`, "cannot unmarshal number")
		})
	}
}

func decode(t *testing.T, modules, text, want string) {
	t.Helper()
	cmd := exec.Command("go", "run", "-modfile="+modules, ".")
	cmd.Dir, cmd.Env = "strict", alike
	cmd.Stdin = strings.NewReader(text)
	switch out, err := cmd.CombinedOutput(); {
	case want == "" && err != nil:
		t.Errorf("%v\n%s", err, out)
	case want != "" && (err == nil || !strings.Contains(string(out), want)):
		t.Errorf("%v, and not %q\n%s", err, want, out)
	}
}
