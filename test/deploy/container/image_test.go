// Package container tests what is in deploy/container: the image, without an
// engine to run it, and the files around it.
package container

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const tree = "../../.." // the working tree

// What all tests share.
var (
	binary string // smtpseal, as make build has it
	image  []byte // the archive
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "container")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user is to reach it
		return 0, err
	}
	binary = filepath.Join(dir, "smtpseal")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/smtpseal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	if image, err = pack(filepath.Join(dir, "image.tar")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// pack makes the archive.
func pack(file string) ([]byte, error) {
	cmd := exec.Command("go", "run", "./deploy/container", "-binary", binary, "-o", file)
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pack: %w\n%s", err, out)
	}
	return os.ReadFile(file)
}

func TestImageIsReproducible(t *testing.T) {
	again, err := pack(filepath.Join(t.TempDir(), "again.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, again) {
		t.Error("made twice, and not the same")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// members are the files of a tar, by name.
func members(t *testing.T, archive []byte) (headers []*tar.Header, texts map[string][]byte) {
	t.Helper()
	texts = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if texts[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
}

type descriptor struct {
	MediaType, Digest string
	Size              int
}

type imageConfig struct {
	Architecture, OS string
	Config           struct {
		User            string
		Entrypoint, Cmd []string
		Volumes         map[string]any
		StopSignal      string
		Healthcheck     struct{ Test []string }
	}
	RootFS struct {
		Type    string
		DiffIDs []string `json:"diff_ids"`
	}
}

// opened follows the archive as an engine does, and checks each digest.
func opened(t *testing.T) (made imageConfig, layer []byte) {
	t.Helper()
	_, files := members(t, image)
	blob := func(d descriptor) []byte {
		text := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if fmt.Sprintf("sha256:%x", sha256.Sum256(text)) != d.Digest || len(text) != d.Size {
			t.Fatalf("%+v: no such blob, or another", d)
		}
		return text
	}
	var layout struct{ ImageLayoutVersion string }
	decode(t, files["oci-layout"], &layout)
	var index struct{ Manifests []descriptor }
	decode(t, files["index.json"], &index)
	if layout.ImageLayoutVersion != "1.0.0" || len(index.Manifests) != 1 {
		t.Fatalf("%+v %+v", layout, index)
	}
	var manifest struct {
		SchemaVersion int
		MediaType     string
		Config        descriptor
		Layers        []descriptor
	}
	decode(t, blob(index.Manifests[0]), &manifest)
	if manifest.SchemaVersion != 2 || manifest.MediaType != index.Manifests[0].MediaType || len(manifest.Layers) != 1 {
		t.Fatalf("%+v", manifest)
	}
	decode(t, blob(manifest.Config), &made)
	if made.RootFS.Type != "layers" || !reflect.DeepEqual(made.RootFS.DiffIDs, []string{manifest.Layers[0].Digest}) { // not compressed
		t.Fatalf("%+v", made.RootFS)
	}
	var docker []struct {
		Config string
		Layers []string
	}
	decode(t, files["manifest.json"], &docker)
	if len(docker) != 1 || len(docker[0].Layers) != 1 || files[docker[0].Config] == nil || files[docker[0].Layers[0]] == nil {
		t.Fatalf("%+v", docker)
	}
	return made, blob(manifest.Layers[0])
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

func TestImageHasTheBinaryAndLittleElse(t *testing.T) {
	made, layer := opened(t)
	if made.OS != "linux" || made.Architecture != "amd64" || made.Config.User != "65532:65532" || made.Config.Volumes["/var/lib/smtpseal"] == nil {
		t.Errorf("%+v", made)
	}
	headers, files := members(t, layer)
	var got []string
	for _, h := range headers {
		got = append(got, fmt.Sprintf("%04o %d %s", h.Mode, h.Uid, h.Name))
		if h.Gid != h.Uid || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
			t.Errorf("%+v", h)
		}
	}
	want := []string{
		"0755 0 etc/", "0644 0 etc/group", "0644 0 etc/passwd", "0755 0 etc/smtpseal/", "0755 0 etc/ssl/", "0755 0 etc/ssl/certs/",
		"0644 0 etc/ssl/certs/ca-certificates.crt", "0755 0 usr/", "0755 0 usr/bin/", "0755 0 usr/bin/smtpseal",
		"0755 0 var/", "0755 0 var/lib/", "0700 65532 var/lib/smtpseal/",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	program, err := os.ReadFile(binary)
	if err != nil || !bytes.Equal(files["usr/bin/smtpseal"], program) {
		t.Errorf("%v, or not the binary", err)
	}
	if n := bytes.Count(files["etc/ssl/certs/ca-certificates.crt"], []byte("BEGIN CERTIFICATE")); n < 100 {
		t.Errorf("%d roots", n)
	}
}
