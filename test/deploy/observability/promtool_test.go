package observability

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestRules has promtool try the alerts on series that were thought up for
// them: when they fire, and when they must not.
func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint-fatal", filepath.Join(deployed, "alerts.yaml"))
	promtool(t, "test", "rules", filepath.Join("testdata", "alerts_test.yaml"))
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, _ := tool(t, "promtool")
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func write(t *testing.T, path string, value any) {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
