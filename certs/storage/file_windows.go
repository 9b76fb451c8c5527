package storage

import "syscall"

// errQuota is ERROR_DISK_QUOTA_EXCEEDED.
const errQuota = syscall.Errno(1295)

// syncFolder does nothing: Windows has no such thing for folders.
func syncFolder(string) error { return nil }
