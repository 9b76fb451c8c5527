// Package storage keeps what certificates need to outlive a process and to be
// shared by replicas: keys, certificates, ACME accounts, challenges, session
// ticket keys, and locks. A Store is certmagic's Storage with bounds.
//
// Every kind of store is a medium, which does a few steps in its own way. All
// the rest is common to them and written once: limits of time and size, which
// keys are good, folders, the upkeep of locks, encryption.
//
// It promises:
//   - Opening a store over the network succeeds while the server is away. Calls
//     then fail, saying so, until it is back.
//   - No call lasts longer than ten seconds, but Lock, which waits for whoever
//     has the lock, as long as its context allows.
//   - A lock has one owner and ends with its owner: see lock.go.
//   - No error, log line or String has a password or key in it.
package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Store is where certificates live. It is safe for concurrent use.
//
// A missing key is fs.ErrNotExist to Load, Stat and List, and no error to
// Delete. A folder is there while a value is below it. Unlock returns
// ErrLockLost when the lock had passed to another in the meantime.
type Store interface {
	certmagic.Storage
	certmagic.TryLocker
	// Close releases the locks held through this Store, ends its goroutines and
	// connections. It takes at most some twenty seconds; more than one call is
	// fine, and other calls fail afterwards.
	Close() error
}

// Options say which store to open. Formatting them shows the type only, since
// URL and EncryptionKey are secrets.
type Options struct {
	Type       string // file, redis, postgres, kubernetes
	Path       string // file: the directory
	URL        string // redis, postgres
	Prefix     string // of Redis keys, of Secrets' names, the PostgreSQL schema; "" is smtpseal
	Namespace  string // kubernetes; "" is the pod's own
	Kubeconfig string // kubernetes; "" is the pod's service account
	// EncryptionKey encrypts all values, see sealed.go: a text of at least 32
	// octets, or 64 hex digits. "" leaves them plain.
	EncryptionKey string
	Log           *zap.Logger   // nil logs nothing
	Lease         time.Duration // of locks; 0 is 30 s. Tests shorten it

	// ReadOnly is for those who look: file makes no directory and is empty where
	// there is none. Who asks for it writes nothing.
	ReadOnly bool
}

const (
	defaultPrefix = "smtpseal"
	defaultLease  = 30 * time.Second
)

// openers are all kinds of stores. An opener checks settings; only the file
// store, which cannot be away, also touches what it opens.
var openers = map[string]func(context.Context, Options) (medium, error){
	"file":       openFile,
	"redis":      openRedis,
	"postgres":   openPostgres,
	"kubernetes": openKubernetes,
}

// Open returns the store that o names. Wrong settings are errors.
func Open(ctx context.Context, o Options) (Store, error) {
	m, err := openMedium(ctx, &o)
	if err != nil {
		return nil, err
	}
	if m, err = encryption(m, o.EncryptionKey); err != nil {
		return nil, err
	}
	return newStore(m, o), nil
}

// openMedium fills in the defaults, too, since openers rely on them.
func openMedium(ctx context.Context, o *Options) (medium, error) {
	open, known := openers[o.Type]
	if !known {
		kinds := strings.Join(slices.Sorted(maps.Keys(openers)), ", ")
		return nil, fmt.Errorf("storage: type %q is none of %s", o.Type, kinds)
	}
	if o.Lease < 0 {
		return nil, errors.New("storage: a lease below zero")
	}
	o.fill()
	m, err := open(ctx, *o)
	if err != nil {
		return nil, fmt.Errorf("open %s storage: %w", o.Type, err)
	}
	return m, nil
}

func (o *Options) fill() {
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
}

// Format hides what is secret from every verb.
func (o Options) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "storage of type %s", o.Type) }

// MarshalJSON hides it from loggers that go by reflection.
func (o Options) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "{\"Type\":%q}", o.Type), nil }

// A medium is what one kind of store does in its own way. Its methods are
// called with good keys (see checkKey), with a context that has a deadline, and
// from several goroutines; one that ignores its context is abandoned, not waited
// for, so what it returns late is lost. Errors name neither the call nor the key,
// which the store adds, and no secret.
type medium interface {
	// store puts value, of maxValue octets at most, at key, wholly or not at all.
	store(ctx context.Context, key string, value []byte) error
	// load returns the value, or fs.ErrNotExist, which it is for a folder, too.
	// What is longer than maxValue it does not read into memory, but returns
	// errTooLong.
	load(ctx context.Context, key string) ([]byte, error)
	// remove removes the value at key and all below key/. Nothing there is fine.
	remove(ctx context.Context, key string) error
	// keys returns the keys of values, in any order: prefix itself, if it has a
	// value, and all below prefix/; all for "". None is no error. More than
	// maxKeys is errTooMany.
	keys(ctx context.Context, prefix string) ([]string, error)
	// stat describes the value at key, or the folder (Key and IsTerminal false),
	// or returns fs.ErrNotExist.
	stat(ctx context.Context, key string) (certmagic.KeyInfo, error)

	// acquire makes token the owner of the lock for a lease from now, in one
	// atomic step, if nobody has it, its owner's lease has lapsed, or token has it
	// already (the answer to an earlier try may be lost). No waiting. Names of
	// locks are any text. Tokens are 32 hex digits and never used again. Leases
	// must not be measured by comparing clocks of two machines.
	acquire(ctx context.Context, name, token string, lease time.Duration) (bool, error)
	// refresh starts token's lease again, and returns false if token is not, or
	// no more, the owner, or nobody is.
	refresh(ctx context.Context, name, token string, lease time.Duration) (bool, error)
	// release ends the lock if token is its owner, in one atomic step, and
	// returns whether it was.
	release(ctx context.Context, name, token string) (bool, error)

	// close ends connections. No call is under way, but for abandoned ones.
	close() error
	// String says which store this is, to people, without a secret.
	String() string
}
