package storage

import "syscall"

// errQuota is ERROR_DISK_QUOTA_EXCEEDED.
const errQuota = syscall.Errno(1295)

// syncFolder does nothing: Windows has no such thing for folders.
func syncFolder(string) error { return nil }

// removeFolder removes an empty folder, and nothing else.
func removeFolder(path string) error {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	return syscall.RemoveDirectory(name)
}
