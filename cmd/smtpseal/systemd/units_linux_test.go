package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const units = "../../../deploy/systemd"

// analyze runs systemd-analyze, which needs no systemd.
func analyze(t *testing.T, args ...string) (output string, err error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("%v: run test/install.sh", err)
	}
	cmd := exec.Command(tool, args...)
	// What this machine runs is not what is looked at.
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH=/usr/lib/systemd/system:/lib/systemd/system", "SYSTEMD_COLORS=0")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// install puts the units into a directory of the test's own, with a program
// that is there in the place of ours, and returns their paths.
func install(t *testing.T, change ...string) (service, socket string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "smtpseal")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	replace := strings.NewReplacer(append(change, "ExecStart=/usr/bin/smtpseal ", "ExecStart="+program+" ")...)
	var paths []string
	for _, name := range []string{"smtpseal.service", "smtpseal.socket"} {
		text, err := os.ReadFile(filepath.Join(units, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(replace.Replace(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths[0], paths[1]
}

// systemd-analyze prints what it does not understand and exits with 0, so
// nothing printed is what counts.
func TestSystemdUnderstandsTheUnits(t *testing.T) {
	service, socket := install(t)
	if said, err := analyze(t, "verify", "--man=no", service, socket); said != "" || err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	for _, mistake := range []string{"WatchdogSeconds=30s", "WatchdogSec=often"} {
		service, socket := install(t, "WatchdogSec=30s", mistake)
		if said, _ := analyze(t, "verify", "--man=no", service, socket); !strings.HasPrefix(said, service+":") {
			t.Errorf("%s is not noticed: %q", mistake, said)
		}
	}
}

// Exposure is from 0.0 to 10.0, threshold ten times that.
func TestTheServiceHasNoRightsThatItDoesNotNeed(t *testing.T) {
	service, _ := install(t)
	said, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=20", service)
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	t.Log(lines[len(lines)-1])
	service, _ = install(t, "ProtectSystem=strict", "", "NoNewPrivileges=yes", "", "SystemCallFilter=", "#")
	if said, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=20", service); err == nil {
		t.Errorf("a service with more rights passes, too:\n%s", said)
	}
}
