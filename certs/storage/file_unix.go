//go:build !windows

package storage

import (
	"errors"
	"os"
	"syscall"
)

const errQuota = syscall.EDQUOT

// syncFolder makes a rename outlive a power cut.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // file systems that have no such thing
	}
	return errors.Join(err, f.Close())
}

// removeFolder removes an empty folder, and nothing else.
func removeFolder(path string) error { return syscall.Rmdir(path) }
