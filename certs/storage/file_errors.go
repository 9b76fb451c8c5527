package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// errNoFolder is a path that leads through a file.
const errNoFolder = syscall.ENOTDIR

// remedies are what an operator can do, by cause. What is not here says enough
// by itself.
var remedies = []struct {
	cause  error
	remedy func(d *directory) string
}{
	{errNoFolder, func(d *directory) string {
		return fmt.Sprintf("%s is not a directory: give storage.path another one, or move that file", d.obstacle())
	}},
	{syscall.EROFS, func(d *directory) string {
		return "the file system is read-only: mount it writable; under systemd name it in StateDirectory= or ReadWritePaths=; in a container mount a volume there"
	}},
	{syscall.ENOSPC, func(d *directory) string {
		return "the disk is full, or has no inodes left: make room on it"
	}},
	{errQuota, func(d *directory) string {
		return "the quota is used up: make room, or raise it"
	}},
	{syscall.ENAMETOOLONG, func(d *directory) string {
		return "the file system cannot have a name that long"
	}},
	{fs.ErrPermission, func(d *directory) string {
		return fmt.Sprintf("the directory and all in it must belong to this process's user: as root, install -d -m 0700 -o %d %s, and chown -R %[1]d %[2]s if it was another's; under systemd StateDirectory= does it", os.Getuid(), d.path)
	}},
}

// explain adds to err what to do about it.
func (d *directory) explain(err error) error {
	if err == nil || err == fs.ErrNotExist || err == errTooLong || err == errTooMany {
		return err
	}
	for _, r := range remedies {
		if errors.Is(err, r.cause) {
			return fmt.Errorf("%w: %s", err, r.remedy(d))
		}
	}
	return err
}

// obstacle is what is in the way: the first component of the path that is there
// and no directory.
func (d *directory) obstacle() string {
	obstacle := d.path
	for path := d.path; ; path = filepath.Dir(path) {
		if described, err := os.Stat(path); err == nil && !described.IsDir() {
			obstacle = path
		}
		if path == filepath.Dir(path) {
			return obstacle
		}
	}
}
