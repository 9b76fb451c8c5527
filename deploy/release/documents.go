package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// completions are the files of each shell, by the names that it looks for.
var completions = map[string]string{
	"bash": "smtpseal.bash", "zsh": "_smtpseal", "fish": "smtpseal.fish", "powershell": "smtpseal.ps1",
}

// document writes what the program says of itself: its manual, completions for
// shells, and the licences of what it is made of.
func (p *built) document(dir string) error {
	runs, done, err := p.here()
	if err != nil {
		return err
	}
	defer done()
	if err := os.MkdirAll(filepath.Join(dir, "completions"), 0o755); err != nil {
		return err
	}
	if _, err := output(runs, "man", filepath.Join(dir, "man")); err != nil {
		return err
	}
	for shell, name := range completions {
		text, err := output(runs, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "completions", name), text, 0o644); err != nil {
			return err
		}
	}
	text, err := p.licences()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "third-party-licences"), text, 0o644)
}

// here is the program if this machine can run it, else one of the same source
// that it can.
func (p *built) here() (file string, done func(), err error) {
	if p.os == runtime.GOOS && p.arch == runtime.GOARCH {
		file, err = filepath.Abs(p.file)
		return file, func() {}, err
	}
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return "", nil, err
	}
	done = func() { os.RemoveAll(dir) }
	file = filepath.Join(dir, "smtpseal")
	stamp := fmt.Sprintf("-buildvcs=%t", p.revision != "")
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", stamp, "-o", file, "./cmd/smtpseal")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=", "GOARCH=") // the same as for archives, and so in the cache
	if said, err := c.CombinedOutput(); err != nil {
		done()
		return "", nil, fmt.Errorf("%v: %w\n%s", c, err, said)
	}
	return file, done, nil
}

func output(name string, args ...string) ([]byte, error) {
	text, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return text, nil
}

// licences are those of the modules that the program is made of, and of Go's own
// library; all of them ask to be passed on with it.
func (p *built) licences() ([]byte, error) {
	args := []string{"list", "-m", "-f", "{{.Path}}\t{{.Version}}\t{{.Dir}}"}
	for _, m := range p.info.Deps {
		args = append(args, m.Path)
	}
	listed, err := output("go", args...)
	if err != nil {
		return nil, err
	}
	root, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	lines := "Go\t" + p.info.GoVersion + "\t" + string(root) + string(listed)
	var text bytes.Buffer
	for line := range strings.Lines(lines) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s is not on this machine: go mod download", fields[0])
		}
		if err := licencesOf(&text, fields[0]+" "+fields[1], fields[2]); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// terms are how files with a licence, or with a notice that goes with it, begin.
var terms = []string{"LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "PATENTS"}

func licencesOf(text *bytes.Buffer, module, dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", module, err)
	}
	found := false
	for _, f := range files {
		is := slices.ContainsFunc(terms, func(word string) bool { return strings.HasPrefix(strings.ToUpper(f.Name()), word) })
		if !is || f.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return fmt.Errorf("%s: %w", module, err)
		}
		fmt.Fprintf(text, "%s\n%s: %s\n\n%s\n\n", strings.Repeat("=", 78), module, f.Name(), bytes.TrimSpace(content))
		found = true
	}
	if !found {
		return fmt.Errorf("%s has no licence in %s", module, dir)
	}
	return nil
}
