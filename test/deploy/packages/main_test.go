// Package packages tests what is installed: the .deb and the .rpm, on a machine
// that is thrown away afterwards and has a systemd of its own (see machine.sh),
// with mail that goes on while a new version is installed.
//
// It takes root and what test/install.sh gets. What is missing is a failure, never
// skipped.
package packages

import (
	"errors"
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
	again   string // … with the same, built once more
	newer   string // … and with those of v1.1.0, whose program is another file
)

// prepared names the directory of all that, for a test that runs as root behind
// one that does not.
const prepared = "SMTPSEAL_PACKAGES"

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		code = 1
	}
	os.Exit(code)
}

// run builds as whoever runs the tests, and tests as root.
func run(m *testing.M) (code int, err error) {
	dir := os.Getenv(prepared)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "packages"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
	}
	program, older, again, newer = dir+"/smtpseal", dir+"/older", dir+"/again", dir+"/newer"
	if os.Getenv(prepared) == "" {
		if err := prepare(dir); err != nil {
			return 0, err
		}
	}
	if os.Geteuid() == 0 {
		return m.Run(), nil
	}
	c := exec.Command("sudo", append([]string{"-n", "env", prepared + "=" + dir, "PATH=" + os.Getenv("PATH")}, os.Args...)...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return 0, fmt.Errorf("a machine to install on takes root, by sudo here: %w", err)
	}
	return 0, nil
}

func prepare(dir string) error {
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
	return errors.Join(pack(older, "v1.0.0", program), pack(again, "v1.0.0", program), pack(newer, "v1.1.0", other))
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
