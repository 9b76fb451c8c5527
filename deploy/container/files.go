package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// owner is the user smtpseal runs as. No file says more about it, but for
// programs that want a name: those that acme.on_event runs.
const owner = 65532

// epoch is when everything was changed, as far as the image says.
var epoch = time.Unix(0, 0)

// A file is a file or, with a slash at its end, a directory.
type file struct {
	name string
	mode int64
	uid  int
	text []byte
}

// contents are all files of the image.
func contents(binary, roots string) ([]file, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	cas, err := os.ReadFile(roots)
	if err != nil {
		return nil, fmt.Errorf("%w: install ca-certificates, or name another file with -roots", err)
	}
	return []file{
		{"etc/", 0o755, 0, nil},
		{"etc/group", 0o644, 0, []byte("root:x:0:\nsmtpseal:x:65532:\n")},
		{"etc/passwd", 0o644, 0, []byte("root:x:0:0::/:/none\nsmtpseal:x:65532:65532::/var/lib/smtpseal:/none\n")},
		{"etc/smtpseal/", 0o755, 0, nil},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, cas},
		{"usr/", 0o755, 0, nil},
		{"usr/bin/", 0o755, 0, nil},
		{"usr/bin/smtpseal", 0o755, 0, program},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		// A volume that is made for it belongs to this user, too.
		{"var/lib/smtpseal/", 0o700, owner, nil},
	}, nil
}

// layer is them as a tar, always the same for the same files.
func layer(files []file) ([]byte, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.uid, Size: int64(len(f.text)), ModTime: epoch, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if f.isDir() {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return text.Bytes(), err
}

func (f file) isDir() bool { return f.name[len(f.name)-1] == '/' }

// unpack writes them into a directory. It takes root to give them to their
// owner.
func unpack(root string, files []file) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(root, f.name)
		var err error
		if f.isDir() {
			err = os.Mkdir(path, os.FileMode(f.mode))
		} else {
			err = os.WriteFile(path, f.text, os.FileMode(f.mode))
		}
		if err == nil {
			err = os.Chmod(path, os.FileMode(f.mode)) // whatever the umask
		}
		if err == nil && f.uid != os.Getuid() {
			err = os.Chown(path, f.uid, f.uid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A member is a file of the archive.
type member struct {
	name string
	text []byte
}

func writeMembers(to io.Writer, members []member) error {
	w := tar.NewWriter(to)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.text)), ModTime: epoch, Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(m.text); err != nil {
			return err
		}
	}
	return w.Close()
}
