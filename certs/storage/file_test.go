package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

func TestFileGoesOnWhereFileStorageWas(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	old := &certmagic.FileStorage{Path: path}
	keys := []string{"certificates/ca/a.example/a.example.crt", "certificates/ca/wildcard_.example/wildcard_.example.key", "acme/ca/users/a@b.c/b.json"}
	for _, key := range keys {
		must(t, old.Store(ctx, key, []byte(key)))
	}
	s := inFiles(t, path, "")
	for _, key := range keys {
		if got, err := s.Load(ctx, key); err != nil || string(got) != key {
			t.Errorf("%s: %q, %v", key, got, err)
		}
		must(t, s.Store(ctx, key, []byte("new "+key)))
		if got, err := old.Load(ctx, key); err != nil || string(got) != "new "+key {
			t.Errorf("back: %s: %q, %v", key, got, err)
		}
	}
	all, err := s.List(ctx, "", false)
	must(t, err)
	if got := strings.Join(all, " "); got != "acme certificates" {
		t.Errorf("listed are %s", got)
	}
}

func TestFilesAreTheirOwnersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "er")
	s := inFiles(t, path, "")
	must(t, s.Store(t.Context(), "a/b", []byte("x")))
	must(t, s.Lock(t.Context(), "l"))
	must(t, filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		described, _ := entry.Info()
		if described.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, described.Mode())
		}
		return err
	}))
}

func TestFileIsLookedAtWithoutATrace(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	empty := opener(Options{Type: "file", Path: filepath.Join(dir, "none"), ReadOnly: true})(t)
	if _, err := empty.Load(ctx, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if keys, err := empty.List(ctx, "", true); len(keys) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(keys, err)
	}
	if err := empty.Store(ctx, "a", nil); err == nil {
		t.Error("a value is stored nowhere")
	}
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600))
	there := opener(Options{Type: "file", Path: dir, ReadOnly: true})(t)
	if value, err := there.Load(ctx, "a"); string(value) != "x" || err != nil {
		t.Errorf("%q %v", value, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 1 || err != nil {
		t.Errorf("there are %v, %v", entries, err)
	}
	if _, err := Open(ctx, Options{Type: "file", Path: filepath.Join(dir, "a", "b"), ReadOnly: true}); err != nil {
		t.Error(err)
	}
}

func TestFileOpenTellsWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for name, c := range map[string]struct{ path, says string }{
		"no path":      {"", "set storage.path"},
		"a file":       {filepath.Join(dir, "file"), filepath.Join(dir, "file") + " is not a directory"},
		"below a file": {filepath.Join(dir, "file", "deep"), filepath.Join(dir, "file") + " is not a directory"},
		"too long":     {filepath.Join(dir, strings.Repeat("x", 300)), "name that long"},
	} {
		_, err := Open(t.Context(), Options{Type: "file", Path: c.path})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The causes are made up: to have them takes a mount, or not to be root, which
// is not to be asked of whoever runs the tests.
func TestFileTroubleNamesItsRemedy(t *testing.T) {
	d := &directory{path: "/var/lib/smtpseal"}
	for cause, says := range map[error]string{
		syscall.EACCES: "install -d -m 0700", syscall.EPERM: "chown", syscall.EROFS: "ReadWritePaths=",
		syscall.ENOSPC: "disk is full", syscall.EDQUOT: "quota", syscall.ENOTDIR: "storage.path",
	} {
		err := d.explain(&fs.PathError{Op: "open", Path: "/var/lib/smtpseal/x", Err: cause})
		if !strings.Contains(err.Error(), says) || !errors.Is(err, cause) {
			t.Error(err)
		}
	}
}

func TestFileWaitsForADirectoryThatIsAway(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "mounted"), t.Context()
	s := inFiles(t, path, "")
	must(t, s.Store(ctx, "a", []byte("x")))
	must(t, os.Rename(path, path+"-away"))
	check := func(when string) {
		t.Helper()
		for step, err := range everyCall(ctx, s) {
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "mount") {
				t.Errorf("%s: %s: %v", when, step, err)
			}
		}
	}
	check("gone")
	must(t, os.Mkdir(path, 0o700))
	check("an empty mount point")
	if entries, _ := os.ReadDir(path); len(entries) != 0 {
		t.Errorf("it was written to: %v", entries)
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+"-away", path))
	if got, err := s.Load(ctx, "a"); err != nil || string(got) != "x" {
		t.Errorf("back again: %q, %v", got, err)
	}
}

func TestFileEmptiedIsJustEmpty(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	s := inFiles(t, path, "")
	must(t, s.Store(ctx, "a", []byte("x")))
	entries, err := os.ReadDir(path)
	must(t, err)
	for _, entry := range entries { // rm -r PATH/* .*
		must(t, os.RemoveAll(filepath.Join(path, entry.Name())))
	}
	if _, err := s.Load(ctx, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, s.Store(ctx, "a", []byte("y")))
	must(t, s.Lock(ctx, "l"))
	must(t, s.Unlock(ctx, "l"))
}

func TestFileSweepsDraftsOfTheDead(t *testing.T) {
	path := t.TempDir()
	drafts := filepath.Join(path, draftsFolder)
	must(t, os.MkdirAll(filepath.Join(drafts, "lock-old"), 0o700))
	for _, name := range []string{"value-old", "value-new", "lock-old/token", "not-ours"} {
		must(t, os.WriteFile(filepath.Join(drafts, name), nil, 0o600))
	}
	long := time.Now().Add(-2 * draftAge)
	for _, name := range []string{"value-old", "lock-old", "not-ours"} {
		must(t, os.Chtimes(filepath.Join(drafts, name), long, long))
	}
	inFiles(t, path, "")
	entries, err := os.ReadDir(drafts)
	must(t, err)
	if len(entries) != 2 || entries[0].Name() != "not-ours" || entries[1].Name() != "value-new" {
		t.Errorf("left are %v", entries)
	}
}

// A process of before, or one with certmagic's own storage, has made the lock.
func TestFileLockOfFileStorageIsRespectedThenStale(t *testing.T) {
	path := t.TempDir()
	old := &certmagic.FileStorage{Path: path}
	must(t, old.Lock(t.Context(), "issue_cert_a.example"))
	s := inFiles(t, path, "")
	if tryLock(t, s, "issue_cert_a.example") {
		t.Error("it is ignored")
	}
	// FileStorage refreshes every 5 s only: to testLease it is dead.
	must(t, s.Lock(soon(t, 3*testLease), "issue_cert_a.example"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if old.Lock(ctx, "issue_cert_a.example") == nil {
		t.Error("FileStorage has it, too")
	}
	must(t, s.Unlock(t.Context(), "issue_cert_a.example"))
}

func TestFileLocksLeaveNothing(t *testing.T) {
	path := t.TempDir()
	s := inFiles(t, path, "")
	must(t, s.Lock(t.Context(), "l"))
	must(t, s.Unlock(t.Context(), "l"))
	for _, folder := range []string{locksFolder, draftsFolder} {
		if entries, err := os.ReadDir(filepath.Join(path, folder)); err != nil || len(entries) != 0 {
			t.Errorf("left in %s: %v, %v", folder, entries, err)
		}
	}
}

// The thief looked, found the lock stale, and stood still. Meanwhile another
// has stolen it. Every step that the thief then takes must fail.
func TestFileLateThiefTakesNothing(t *testing.T) {
	d := &directory{path: t.TempDir(), seen: map[string]sighting{}}
	var err error
	d.root, err = os.Stat(d.path)
	must(t, err)
	ctx, place := t.Context(), d.lockPlace("l")
	for _, token := range []string{"dead", "other"} {
		got, err := d.acquire(ctx, "l", token, 0) // every owner is stale at the second look
		must(t, err)
		if !got {
			got, err = d.acquire(ctx, "l", token, 0)
			must(t, err)
		}
		if !got {
			t.Fatalf("%s did not get it", token)
		}
	}
	must(t, d.evict(place, "dead"))
	if got, err := d.take(place, "late"); got || err != nil {
		t.Errorf("taken: %v, %v", got, err)
	}
	if ours, err := d.refresh(ctx, "l", "dead", 0); ours || err != nil {
		t.Errorf("the dead one's refresh: %v, %v", ours, err)
	}
	if was, err := d.release(ctx, "l", "dead"); was || err != nil {
		t.Errorf("the dead one's release: %v, %v", was, err)
	}
	if ours, err := d.refresh(ctx, "l", "other", 0); !ours || err != nil {
		t.Errorf("the other lost it: %v, %v", ours, err)
	}
	if was, err := d.release(ctx, "l", "other"); !was || err != nil {
		t.Errorf("the other's release: %v, %v", was, err)
	}
}
