package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An entry is a file of an archive.
type entry struct {
	name string // in the archive
	file string // on the disk
	mode fs.FileMode
}

// publish writes the archive and the SBOM of a program.
func (p *built) publish(dir, documents string) error {
	entries, err := p.entries(documents)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	bill, err := p.sbom()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, p.name()+".cdx.json"), bill, 0o644); err != nil {
		return err
	}
	write, ending := writeTar, ".tar.gz"
	if p.os == "windows" {
		write, ending = writeZip, ".zip"
	}
	f, err := os.Create(filepath.Join(dir, p.name()+ending))
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(write(f, entries, p.time), f.Close())
}

// entries are the files of its archive, sorted, below a directory of its name.
func (p *built) entries(documents string) ([]entry, error) {
	program := "smtpseal"
	if p.os == "windows" {
		program += ".exe"
	}
	all := []entry{{program, p.file, 0o755}, {"third-party-licences.txt", filepath.Join(documents, "third-party-licences"), 0o644}}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "config.example.yaml"} {
		all = append(all, entry{name, name, 0o644})
	}
	patterns := []string{filepath.Join(documents, "completions", "*"), "docs/*.md"}
	if p.os != "windows" {
		patterns = append(patterns, filepath.Join(documents, "man", "*"))
	}
	if p.os == "linux" { // nobody else has systemd
		patterns = append(patterns, "deploy/systemd/*")
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: nothing there (%v)", pattern, err)
		}
		for _, file := range found {
			all = append(all, entry{path.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file)), file, 0o644})
		}
	}
	for i := range all {
		all[i].name = p.name() + "/" + all[i].name
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func writeTar(w io.Writer, entries []entry, at time.Time) error {
	packed, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(packed)
	for _, e := range entries {
		content, err := os.ReadFile(e.file)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: e.name, Mode: int64(e.mode), Size: int64(len(content)), ModTime: at, Uname: "root", Gname: "root"}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

func writeZip(w io.Writer, entries []entry, at time.Time) error {
	archive := zip.NewWriter(w)
	for _, e := range entries {
		content, err := os.ReadFile(e.file)
		if err != nil {
			return err
		}
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		header.SetMode(e.mode)
		file, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := file.Write(content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// sumsName is the file that sha256sum --check reads.
const sumsName = "SHA256SUMS"

func writeSums(dir string) error {
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, f := range files {
		if f.Name() == sumsName || f.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	if text.Len() == 0 {
		return fmt.Errorf("%s: nothing to sum", dir)
	}
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(text.String()), 0o644)
}
