// Package release tests make release, for one platform that is not this one, and
// what the workflows make of it.
package release

import (
	"archive/zip"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const tree = "../../.."

func TestARelease(t *testing.T) {
	dir := t.TempDir()
	out, work := filepath.Join(dir, "dist"), filepath.Join(dir, "work")
	c := exec.Command("make", "-C", tree, "release", "PLATFORMS=windows/amd64")
	// A checkout need not be a repository; for a release it must.
	c.Env = append(os.Environ(), "OUT="+out, "WORK="+work, "BUILDVCS=auto")
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = out
	if said, err := sums.CombinedOutput(); err != nil || bytes.Count(said, []byte(": OK\n")) != 2 {
		t.Errorf("%v\n%s", err, said)
	}

	info, err := buildinfo.ReadFile(filepath.Join(work, "windows-amd64", "smtpseal.exe"))
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(one(t, out, "smtpseal-v*-windows-amd64.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	name := strings.TrimSuffix(filepath.Base(one(t, out, "*.zip")), ".zip")
	if version := info.Main.Version; version != "(devel)" && name != "smtpseal-"+version+"-windows-amd64" {
		t.Errorf("%s holds the version %s", name, version)
	}
	var names []string
	for _, f := range archive.File {
		names = append(names, strings.TrimPrefix(f.Name, name+"/"))
	}
	for _, want := range []string{"smtpseal.exe", "LICENSE", "third-party-licences.txt", "config.example.yaml", "completions/smtpseal.ps1"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s among %q", want, names)
		}
	}
	billed(t, one(t, out, "*.cdx.json"), info)
}

func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// billed holds the SBOM against what the linker says.
func billed(t *testing.T, file string, info *buildinfo.BuildInfo) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || bill.SpecVersion != "1.6" {
		t.Errorf("%s %s", bill.BOMFormat, bill.SpecVersion)
	}
	listed := map[string]string{}
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version {
			t.Errorf("%s %s is in the program, and %q in the bill", m.Path, m.Version, listed[m.Path])
		}
	}
	if len(listed) != len(info.Deps)+1 || "go"+listed["std"] != info.GoVersion {
		t.Errorf("the bill lists %v", listed)
	}
}

// What the workflows run is what anybody can run.
func TestWorkflowsCallTargetsThatThereAre(t *testing.T) {
	makefile, err := os.ReadFile(tree + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(tree + "/.github/workflows/*.yml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v", files, err)
	}
	called := map[string]bool{}
	for _, file := range files {
		for _, step := range steps(t, file) {
			if found := regexp.MustCompile(`^make (\w+)`).FindStringSubmatch(step); found != nil {
				called[found[1]] = true
			}
		}
	}
	for _, target := range []string{"test", "release"} {
		if !called[target] {
			t.Errorf("no workflow calls make %s", target)
		}
	}
	for target := range called {
		if !regexp.MustCompile(`(?m)^` + target + `:.*## `).Match(makefile) {
			t.Errorf("there is no make %s", target)
		}
	}
}

// steps are the commands of a workflow; each of its jobs must have a bound, and
// say what it may.
func steps(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Timeout int `yaml:"timeout-minutes"`
			Steps   []struct{ Run, Uses string }
		}
	}
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if w.Permissions == nil {
		t.Errorf("%s takes the permissions that it is given", file)
	}
	for name, job := range w.Jobs {
		if job.Timeout == 0 || len(job.Steps) == 0 {
			t.Errorf("%s: %s has %d steps and %d minutes", file, name, len(job.Steps), job.Timeout)
		}
		for _, step := range job.Steps {
			all = append(all, step.Run)
			if step.Uses != "" && !strings.HasPrefix(step.Uses, "actions/") {
				t.Errorf("%s: %s is somebody else's", file, step.Uses)
			}
		}
	}
	return all
}
