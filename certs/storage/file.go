package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// A directory keeps each value in a file named by its key, as certmagic's
// FileStorage does, so that one goes on where the other was. Beside them it has
//
//	locks/    see file_lock.go
//	.drafts/  what is being written, until it is renamed to its place
//
// A file is there wholly or not at all, after a power cut, too. This takes a
// file system with atomic rename: local ones, NFSv4, CephFS; not one that makes
// an object store look like files.
type directory struct {
	path  string
	lease time.Duration

	mu   sync.Mutex
	root fs.FileInfo         // the directory itself, see here; nil: there is none
	seen map[string]sighting // of others' locks, by file name
}

const (
	locksFolder  = "locks"
	draftsFolder = ".drafts"
	// draftAge is when a draft is nobody's any more: callTime is seconds.
	draftAge = time.Hour
	// storeTries bounds a race with those who remove empty folders.
	storeTries = 5
)

// openFile makes the directory, and writes to it, to learn now what would else
// be learnt when the first certificate has been paid for.
func openFile(_ context.Context, o Options) (medium, error) {
	if o.Path == "" {
		return nil, errors.New("no directory: set storage.path")
	}
	path, err := filepath.Abs(o.Path) // for messages, and in case somebody changes directory
	if err != nil {
		return nil, err
	}
	d := &directory{path: path, lease: o.Lease, seen: map[string]sighting{}}
	if o.ReadOnly {
		if d.root, err = os.Stat(path); missing(err) == fs.ErrNotExist {
			return d, nil
		}
		return d, d.explain(err)
	}
	for _, folder := range []string{"", locksFolder, draftsFolder} {
		if err := os.MkdirAll(filepath.Join(path, folder), 0o700); err != nil {
			return nil, d.explain(err)
		}
	}
	if d.root, err = os.Stat(path); err != nil {
		return nil, d.explain(err)
	}
	probe, err := d.draft([]byte("probe"))
	if err != nil {
		return nil, d.explain(err)
	}
	if err := os.Remove(probe); err != nil {
		return nil, d.explain(err)
	}
	d.sweep()
	return d, nil
}

func (d *directory) String() string { return "file storage in " + d.path }

func (d *directory) close() error { return nil }

func (d *directory) file(key string) string { return filepath.Join(d.path, filepath.FromSlash(key)) }

// here fails if the directory is another than the one that was opened, as when
// its file system was unmounted: what then seems to be missing must not be
// ordered anew. One that smtpseal has used is taken for the same, mounted again.
func (d *directory) here() error {
	if d.root == nil { // it was opened to be looked at, and was not there
		return fs.ErrNotExist
	}
	now, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("the directory is gone: mount or restore it, or restart to begin anew: %w", syscallOf(err))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if os.SameFile(d.root, now) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(d.path, locksFolder)); err != nil {
		return fmt.Errorf("%s is not the directory that it was at the start, and was never used: mount the right one, or restart to begin anew", d.path)
	}
	d.root = now
	return nil
}

// syscallOf keeps "no such file" of the directory from meaning that of a value.
func syscallOf(err error) error { return errors.New(err.Error()) }

func (d *directory) store(_ context.Context, key string, value []byte) error {
	if err := d.here(); err != nil {
		return err
	}
	var err error
	for range storeTries {
		if err = d.replace(d.file(key), value); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return d.explain(err)
}

func (d *directory) replace(file string, value []byte) error {
	draft, err := d.draft(value)
	if err != nil {
		return err
	}
	err = os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.Rename(draft, file)
	}
	if err != nil {
		os.Remove(draft)
		return err
	}
	return syncFolder(filepath.Dir(file))
}

// draft writes value to the disk, beside the place where it belongs. Only its
// owner may read it (CreateTemp's mode is 0600).
func (d *directory) draft(value []byte) (string, error) {
	folder := filepath.Join(d.path, draftsFolder)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	f, err := os.CreateTemp(folder, "value-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(value)
	if err == nil {
		err = f.Sync() // before the rename, or a power cut may leave an empty file
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func (d *directory) load(_ context.Context, key string) ([]byte, error) {
	if err := d.here(); err != nil {
		return nil, err
	}
	f, err := os.Open(d.file(key))
	if err != nil {
		return nil, d.explain(missing(err))
	}
	defer f.Close()
	if described, err := f.Stat(); err != nil {
		return nil, d.explain(err)
	} else if described.IsDir() {
		return nil, fs.ErrNotExist
	}
	value, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err != nil {
		return nil, d.explain(err)
	}
	if len(value) > maxValue {
		return nil, errTooLong
	}
	return value, nil
}

// remove takes the folders above along that are empty then: nobody else
// would, and a folder is there only while a value is.
func (d *directory) remove(_ context.Context, key string) error {
	if err := d.here(); err != nil {
		return err
	}
	file := d.file(key)
	if err := os.RemoveAll(file); missing(err) != fs.ErrNotExist && err != nil {
		return d.explain(err)
	}
	for parent := filepath.Dir(file); len(parent) > len(d.path); parent = filepath.Dir(parent) {
		if removeFolder(parent) != nil { // os.Remove would take a value that is no folder
			break
		}
	}
	return nil
}

// missing makes "a folder of the path is a file" what it means for a key.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoFolder) {
		return fs.ErrNotExist
	}
	return err
}

func (d *directory) keys(ctx context.Context, prefix string) ([]string, error) {
	if err := d.here(); err != nil {
		return nil, err
	}
	var keys []string
	err := filepath.WalkDir(d.file(prefix), func(file string, entry fs.DirEntry, err error) error {
		if err != nil && missing(err) == fs.ErrNotExist {
			return nil // never was, or deleted while we walked
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		key, err := filepath.Rel(d.path, file)
		if err != nil {
			return err
		}
		key = filepath.ToSlash(key)
		if entry.IsDir() {
			return d.enter(key)
		}
		if checkKey(key) == nil { // what is not ours is not listed
			keys = append(keys, key)
		}
		if len(keys) > maxKeys {
			return errTooMany
		}
		return nil
	})
	return keys, d.explain(err)
}

func (d *directory) enter(key string) error {
	if key != "." && checkKey(key) != nil {
		return fs.SkipDir
	}
	return nil
}

func (d *directory) stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if err := d.here(); err != nil {
		return certmagic.KeyInfo{}, err
	}
	described, err := os.Stat(d.file(key))
	if err != nil {
		return certmagic.KeyInfo{}, d.explain(missing(err))
	}
	if !described.IsDir() {
		return certmagic.KeyInfo{Key: key, Modified: described.ModTime(), Size: described.Size(), IsTerminal: true}, nil
	}
	// FileStorage leaves empty folders behind.
	if below, err := d.keys(ctx, key); err != nil || len(below) == 0 {
		return certmagic.KeyInfo{}, errors.Join(err, fs.ErrNotExist)
	}
	return certmagic.KeyInfo{Key: key, Modified: described.ModTime()}, nil
}

// sweep removes what processes left that were killed while they wrote. It is
// tidiness: errors do not matter.
func (d *directory) sweep() {
	folder := filepath.Join(d.path, draftsFolder)
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		described, err := entry.Info()
		if err == nil && time.Since(described.ModTime()) > draftAge && ours(entry.Name()) {
			os.RemoveAll(filepath.Join(folder, entry.Name()))
		}
	}
}

func ours(draft string) bool {
	return strings.HasPrefix(draft, "value-") || strings.HasPrefix(draft, "lock-")
}
