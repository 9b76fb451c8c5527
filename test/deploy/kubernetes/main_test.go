// Package kubernetes tests what is in deploy/kubernetes and deploy/helm, without a
// cluster: what they render to, by the libraries that kubectl and helm are made
// of; that three versions of Kubernetes understand it; that it is what Pod
// Security lets run; and that smtpseal understands its configuration in there.
//
// Two programs do what this module should not depend on. They are modules of
// their own: render, and strict with a module file for each version.
package kubernetes

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const tree = "../../.." // the working tree

var update = flag.Bool("update", false, "write the golden files anew")

// What all tests share.
var smtpseal, render string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "kubernetes")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	smtpseal, render = filepath.Join(dir, "smtpseal"), filepath.Join(dir, "render")
	if err := build(tree, smtpseal, "./cmd/smtpseal"); err != nil {
		return 0, err
	}
	if err := build("render", render, "."); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// alike makes the go command compile as make build does, so that what all these
// programs share is compiled once.
var alike = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath "+os.Getenv("GOFLAGS"))

func build(dir, program, pkg string) error {
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", program, pkg)
	cmd.Env = alike
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// asked runs render with a question as JSON, and reads its answer.
func asked[T any](t *testing.T, question any, args ...string) (answer T) {
	t.Helper()
	text, err := json.Marshal(question)
	must(t, err)
	cmd := exec.Command(render, args...)
	cmd.Stdin = bytes.NewReader(text)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("render %q: %v: %s", args, err, &complaints)
	}
	must(t, json.Unmarshal(out, &answer))
	return answer
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// golden compares with a file of testdata, as a review would want to see it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs: go test -update and git diff show how", file)
	}
}
