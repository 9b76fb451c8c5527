// Package packages tests what is installed: the .deb and the .rpm, on a machine
// that is thrown away afterwards and has a systemd of its own (see machine.sh),
// with mail that goes on while a new version is installed.
//
// It takes root and what test/install.sh gets. What is missing is a failure, never
// skipped.
package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What all tests share, made by TestMain.
var (
	program string // smtpseal, as it is packed
	older   string // a directory with the packages of v1.0.0
	newer   string // … and of v1.1.0, whose program is another file
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "packages")
	code := 1
	if err == nil {
		defer os.RemoveAll(dir)
		if err = prepare(dir); err == nil {
			code = m.Run()
		}
		os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
	}
	os.Exit(code)
}

func prepare(dir string) error {
	program, older, newer = filepath.Join(dir, "smtpseal"), filepath.Join(dir, "older"), filepath.Join(dir, "newer")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "smtpseal/cmd/smtpseal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", build, err, said)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	other := filepath.Join(dir, "other")
	// An ELF file may have more behind it than it speaks of.
	if err := os.WriteFile(other, append(text, " and something new"...), 0o755); err != nil {
		return err
	}
	if err := pack(older, "v1.0.0", program); err != nil {
		return err
	}
	return pack(newer, "v1.1.0", other)
}

// pack makes the packages of a version as make package does.
func pack(out, version, program string) error {
	c := exec.Command("../../../deploy/packages/build.sh", program)
	c.Env = append(os.Environ(), "OUT="+out, "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build.sh: %w\n%s", err, said)
	}
	return nil
}

// pkg is the package of a kind in a directory.
func pkg(t *testing.T, dir, kind string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has the packages %v (%v)", dir, found, err)
	}
	return found[0]
}

// tool runs a program, and returns what it printed; it must end well.
func tool(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	said, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return string(said)
}

// unpacked is the environment of programs that lie, with all they need, below
// root and are not installed.
func unpacked(root string) []string {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	perl, _ := filepath.Glob("/usr/lib/" + triplet + "/perl5/5.*")
	modules := []string{root + "/usr/share/perl5"}
	for _, dir := range perl {
		modules = append(modules, root+dir)
	}
	return []string{
		"LD_LIBRARY_PATH=" + root + "/usr/lib/" + triplet,
		"PERL5LIB=" + strings.Join(modules, ":"),
		"RPM_CONFIGDIR=" + root + "/usr/lib/rpm",
	}
}
