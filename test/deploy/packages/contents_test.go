package packages

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpseal/test/debian"
)

func TestTheSameSourceMakesTheSamePackages(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"deb", "rpm"} {
		one, err := os.ReadFile(pkg(t, older, kind))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(pkg(t, again, kind))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("two builds make two .%s", kind)
		}
		if len(host) > 3 && bytes.Contains(one, []byte(host)) { // a short one is anywhere by chance
			t.Errorf("the .%s names the machine that it was made on", kind)
		}
	}
	for name, text := range files(t, pkg(t, older, "deb")) {
		if bytes.Contains(text, []byte(tree)) {
			t.Errorf("%s names the directory that it was made in", name)
		}
	}
}

// files are those of a .deb, by their names.
func files(t *testing.T, deb string) map[string][]byte {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "--fsys-tarfile", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for archive := tar.NewReader(bytes.NewReader(out)); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.ModTime.Unix() > 1700000000 {
			t.Errorf("%s is of %d:%d, %v", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if all[strings.TrimPrefix(header.Name, ".")], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// Only what each system has its own place for is in one and not in the other.
func TestBothPackagesHoldTheSame(t *testing.T) {
	root := root(t)
	listed := tool(t, unpacked(root), root+"/usr/bin/rpm", "--dbpath", t.TempDir(), "-qp", "--qf", "[%{FILENAMES} %{FILEMODES:perms}\n]", pkg(t, older, "rpm"))
	rpm := map[string]bool{}
	for line := range strings.Lines(listed) {
		if name, perms, _ := strings.Cut(strings.TrimSpace(line), " "); !strings.HasPrefix(perms, "d") {
			rpm[name] = true
		}
	}
	own := regexp.MustCompile(`^/usr/share/(zsh|licenses|lintian|doc/smtpseal/copyright)`)
	var apart []string
	deb := files(t, pkg(t, older, "deb"))
	for name := range deb {
		if !rpm[name] && !own.MatchString(name) && !strings.HasSuffix(name, "/changelog.Debian.gz") {
			apart = append(apart, name)
		}
	}
	for name := range rpm {
		if deb[name] == nil && !own.MatchString(name) {
			apart = append(apart, name)
		}
	}
	if len(apart) > 0 {
		t.Errorf("in one package only: %q", apart)
	}
	for _, name := range []string{"/usr/bin/smtpseal", "/usr/share/man/man8/smtpseal-run.8.gz", "/usr/share/bash-completion/completions/smtpseal"} {
		if len(deb[name]) == 0 {
			t.Errorf("there is no %s among %q", name, slices.Sorted(maps.Keys(deb)))
		}
	}
}

func TestLintianHasNothingToSay(t *testing.T) {
	root := root(t)
	lintian := func(deb string) string {
		// The words that it would find misspelt in a program of 45 MB are there by
		// chance, and take half the time.
		args := []string{"--no-cfg", "--allow-root", "--fail-on", "none", "--dont-check-part", "binaries/spelling", deb}
		return tool(t, unpacked(root), root+"/usr/bin/lintian", args...)
	}
	if said := lintian(pkg(t, older, "deb")); said != "" {
		t.Error(said)
	}
	// And it would say something.
	dir := t.TempDir()
	tool(t, nil, "dpkg-deb", "--raw-extract", pkg(t, older, "deb"), dir)
	for _, file := range []string{"/usr/share/doc/smtpseal/copyright", "/usr/bin/smtpseal"} { // the latter for speed
		if err := os.Remove(dir + file); err != nil {
			t.Fatal(err)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.deb")
	tool(t, nil, "dpkg-deb", "-Znone", "--build", dir, bad)
	if said := lintian(bad); !strings.Contains(said, "no-copyright-file") {
		t.Errorf("of a package without a copyright file lintian says %q", said)
	}
}

// What the rpm's scripts make before its files are there is what systemd makes
// of its files.
func TestTheUserIsTheSameEverywhere(t *testing.T) {
	line := regexp.MustCompile(`(?m)^u smtpseal .*$`)
	var found []string
	for _, file := range []string{"systemd/smtpseal.sysusers", "packages/rpm/pre"} {
		text, err := os.ReadFile("../../../deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, line.FindString(string(text)))
	}
	if found[0] == "" || found[0] != found[1] {
		t.Errorf("%q", found)
	}
}

// root is where programs are unpacked.
func root(t *testing.T) string {
	t.Helper()
	root, err := debian.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}
