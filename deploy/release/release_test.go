package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// self is the test itself, which is a program like any other.
func self(t *testing.T) *built {
	t.Helper()
	t.Chdir("../..")
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	p.os, p.arch, p.version, p.time = "linux", "amd64", "v1.2.3", time.Unix(1700000000, 0).UTC()
	return p
}

// documents are such as the program would write.
func documents(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"man/smtpseal.8", "completions/smtpseal.bash", "third-party-licences"} {
		file := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(name), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnArchiveIsTheSameEachTime(t *testing.T) {
	p, from := self(t), documents(t)
	var made [][]byte
	for range 2 {
		dir := t.TempDir()
		if err := p.publish(dir, from); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(dir, "smtpseal-v1.2.3-linux-amd64.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, content)
		later := time.Now().Add(time.Hour) // when a file was written is nobody's business
		if err := os.Chtimes(filepath.Join(from, "man", "smtpseal.8"), later, later); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("two archives of the same")
	}
	names := untar(t, made[0])
	for _, want := range []string{"smtpseal", "LICENSE", "man/smtpseal.8", "systemd/smtpseal.service", "third-party-licences.txt", "docs/install.md"} {
		if !slices.Contains(names, p.name()+"/"+want) {
			t.Errorf("no %s among %q", want, names)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not in order: %q", names)
	}
}

// untar lists an archive, and looks at what is said of its files.
func untar(t *testing.T, content []byte) (names []string) {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := int64(0o644)
		if filepath.Base(h.Name) == "smtpseal" {
			mode = 0o755
		}
		if h.Mode != mode || h.Uid != 0 || h.Uname != "root" || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: %o, of %d (%s), %v", h.Name, h.Mode, h.Uid, h.Uname, h.ModTime)
		}
	}
}

func TestWindowsGetsNeitherSystemdNorAManual(t *testing.T) {
	p := self(t)
	p.os = "windows"
	entries, err := p.entries(documents(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.name, "/systemd/") || strings.Contains(e.name, "/man/") {
			t.Error(e.name)
		}
	}
}

func TestTheBillNamesWhatIsInTheProgram(t *testing.T) {
	p := self(t)
	text, err := p.sbom()
	if err != nil {
		t.Fatal(err)
	}
	var b bill
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Metadata.Component; got.PURL != "pkg:golang/smtpseal@v1.2.3" || got.Hashes[0].Content != fmt.Sprintf("%x", sha256.Sum256(content)) {
		t.Errorf("%+v", got)
	}
	if len(b.Components) != 1+len(p.info.Deps) || b.Components[0].Name != "std" {
		t.Errorf("%d modules, and in the bill %+v", len(p.info.Deps), b.Components)
	}
	if b.Metadata.Time != "2023-11-14T22:13:20Z" {
		t.Errorf("of %s", b.Metadata.Time)
	}
}

func TestAModuleWithoutALicenceIsNoticed(t *testing.T) {
	dir := t.TempDir()
	var text bytes.Buffer
	if err := licencesOf(&text, "example.org/m v1.0.0", dir); err == nil {
		t.Error("nothing said")
	}
	for _, name := range []string{"License.md", "NOTICE", "main.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("terms of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := licencesOf(&text, "example.org/m v1.0.0", dir); err != nil {
		t.Fatal(err)
	}
	if got := text.String(); !strings.Contains(got, "terms of License.md") || !strings.Contains(got, "terms of NOTICE") || strings.Contains(got, "main.go") {
		t.Error(got)
	}
}

func TestSumsAreSuchAsSha256sumReads(t *testing.T) {
	dir := t.TempDir()
	if err := writeSums(dir); err == nil {
		t.Error("nothing summed, nothing said")
	}
	for _, name := range []string{"b", "a", sumsName} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeSums(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, sumsName))
	empty := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if want := empty + "  a\n" + empty + "  b\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}
