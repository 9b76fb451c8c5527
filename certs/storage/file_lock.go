package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// A lock is a folder, locks/NAME.lock, with one file in it, named by the
// owner's token:
//
//	acquire  make the folder with its file elsewhere and rename it to its place
//	refresh  overwrite the file in place
//	release  unlink the file, then remove the folder
//	steal    the same, with the file of the owner whose lease has lapsed
//
// Renaming a folder fails while the place is taken by a folder that is not
// empty: so only one can have the lock. A file can be unlinked only by the name
// that its owner's token is, and tokens never come again: so nobody, however
// long he stood still after he looked, can remove a lock other than the one he
// meant. Removing a folder fails while it is not empty, so it removes no lock at
// all. A file named NAME.lock, one name for all, has no such steps: between
// looking whose it is and removing it there is always room for another's lock.
//
// It relies on these three refusals, which POSIX demands of rename, unlink and
// rmdir, which NFS (RFC 8881 sections 18.25 and 18.26) and CephFS take from
// there to the server, and which Windows has, too, as long as nothing is
// renamed onto an empty folder: Go does not either.
//
// Whether a lease has lapsed is seen by watching: an owner whose file stays the
// same for a whole lease, by the watcher's own monotonic clock. No clocks are
// compared, so they may differ, and jump. The price is that one who comes anew
// to a dead owner's lock waits for a whole lease. The file is opened anew for each look,
// because NFS promises fresh contents only then.
//
// certmagic's FileStorage has a file NAME.lock in that place. It is taken for a
// lock with a strange owner: respected while it changes, else removed.

// A sighting is what an owner's file looked like, and since when.
type sighting struct {
	token, contents string
	since           time.Time
}

const (
	// maxSeen bounds what is remembered of others' locks. One that is forgotten
	// is watched anew.
	maxSeen = 10_000
	// beatLen is the part of an owner's file that changes. It is overwritten
	// without growing, so that a full disk takes no lock away.
	beatLen = 20
	// maxLockName leaves room below the 255 octets of a file name; DNS names may
	// be as long.
	maxLockName = 200
)

func (d *directory) acquire(_ context.Context, name, token string, lease time.Duration) (bool, error) {
	if err := d.here(); err != nil {
		return false, err
	}
	place := d.lockPlace(name)
	// Two rounds: the first may find, and clear away, what is left of a lock.
	for range 2 {
		owner, contents, err := d.look(place)
		if err != nil {
			return false, d.explain(err)
		}
		if owner == token {
			return true, nil
		}
		if owner != "" && !d.lapsed(place, sighting{token: owner, contents: contents}, lease) {
			return false, nil
		}
		if err := d.evict(place, owner); err != nil {
			return false, d.explain(err)
		}
		if taken, err := d.take(place, token); taken || err != nil {
			d.forget(place)
			return taken, d.explain(err)
		}
	}
	return false, nil
}

// evict ends the lock of an owner who has lapsed, and nobody else's, or clears
// away what is nobody's.
func (d *directory) evict(place, owner string) error {
	if owner != "" && owner != strange {
		if err := os.Remove(filepath.Join(place, owner)); err != nil && missing(err) != fs.ErrNotExist {
			return err
		}
	}
	os.Remove(place) // an empty folder, or a strange owner's file; else it refuses
	return nil
}

// strange is the owner of a lock that certmagic's FileStorage has made.
const strange = "certmagic"

// look returns whose lock is at place: "" nobody's.
func (d *directory) look(place string) (owner, contents string, err error) {
	entries, err := os.ReadDir(place)
	if errors.Is(err, errNoFolder) {
		contents, err := head(place)
		if err != nil && missing(err) == fs.ErrNotExist {
			return "", "", nil
		}
		return strange, contents, err
	}
	if err != nil && missing(err) != fs.ErrNotExist {
		return "", "", err
	}
	for _, entry := range entries {
		// NFS clients keep .nfs… files for those who still have them open.
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		contents, err := head(filepath.Join(place, entry.Name()))
		if err == nil {
			return entry.Name(), contents, nil
		}
		if missing(err) != fs.ErrNotExist { // not just released
			return "", "", err
		}
	}
	return "", "", nil
}

// head is the beginning of a file: an owner's has some hundred octets.
func head(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	contents, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(contents), err
}

// lapsed returns whether now has looked the same for a whole lease.
func (d *directory) lapsed(place string, now sighting, lease time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known := d.seen[place]
	if known && before.token == now.token && before.contents == now.contents {
		return time.Since(before.since) > lease
	}
	if len(d.seen) >= maxSeen {
		clear(d.seen)
	}
	now.since = time.Now()
	d.seen[place] = now
	return false
}

func (d *directory) forget(place string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, place)
}

// take makes the lock, unless there is one.
func (d *directory) take(place, token string) (bool, error) {
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return false, err
	}
	draft := filepath.Join(d.path, draftsFolder, "lock-"+token)
	if err := os.MkdirAll(draft, 0o700); err != nil {
		return false, err
	}
	defer os.RemoveAll(draft) // gone, if it was renamed
	host, _ := os.Hostname()  // for people only
	contents := fmt.Sprintf("%s host %s process %d since %s\n", beat(), host, os.Getpid(), time.Now().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(draft, token), []byte(contents), 0o600); err != nil {
		return false, err
	}
	err := os.Rename(draft, place)
	if err == nil {
		return true, nil
	}
	if _, err := os.Lstat(filepath.Join(place, token)); err == nil {
		return true, nil // a repeated request of an NFS client: the first one did it
	}
	if _, there := os.Lstat(place); there == nil || errors.Is(err, fs.ErrExist) {
		return false, nil // another was faster; systems call it by several names
	}
	return false, err
}

func (d *directory) refresh(_ context.Context, name, token string, _ time.Duration) (bool, error) {
	if err := d.here(); err != nil {
		return false, err // not "lost": that would be the end of it
	}
	f, err := os.OpenFile(filepath.Join(d.lockPlace(name), token), os.O_WRONLY, 0)
	if err != nil && missing(err) == fs.ErrNotExist {
		return false, nil
	}
	if err != nil {
		return false, d.explain(err)
	}
	_, err = f.WriteAt([]byte(beat()), 0)
	return err == nil, d.explain(errors.Join(err, f.Close()))
}

// beat differs each time, which is all that matters.
func beat() string { return fmt.Sprintf("%0*d", beatLen, time.Now().UnixNano()) }

func (d *directory) release(_ context.Context, name, token string) (bool, error) {
	place := d.lockPlace(name)
	err := os.Remove(filepath.Join(place, token))
	if err != nil && missing(err) == fs.ErrNotExist {
		return false, nil
	}
	if err != nil {
		return false, d.explain(err)
	}
	removeFolder(place) // refuses if another was faster
	return true, nil
}

// lockPlace is where FileStorage has its lock, for names that fit into a file's
// name as they are. Others get a sum, since two names in one place would make
// who holds the one wait for itself.
func (d *directory) lockPlace(name string) string {
	safe := certmagic.StorageKeys.Safe(name)
	if safe != name || len(safe) > maxLockName {
		sum := sha256.Sum256([]byte(name))
		safe = safe[:min(len(safe), maxLockName-33)] + "-" + hex.EncodeToString(sum[:16])
	}
	return filepath.Join(d.path, locksFolder, safe+".lock")
}
