package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// testLease is the lease that stores under test have: short, and long enough
// for three refreshes on a busy machine.
const testLease = 2 * time.Second

// conform is what every store must do. open opens one more Store, with
// testLease, at the same place, and closes it when its test ends. The tests run
// beside each other, each with keys and locks of its own.
func conform(t *testing.T, open func(*testing.T) Store) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) Store){
		"what is missing is fs.ErrNotExist":           missingIsNotExist,
		"a value comes back as it was":                roundTrip,
		"a folder is no value":                        folderIsNoValue,
		"lists are those of FileStorage":              listsAsFileStorage,
		"deletion of a folder takes all below":        deleteFolder,
		"large values are kept, larger ones refused":  largeValues,
		"keys may be odd":                             oddKeys,
		"bad keys are refused":                        badKeys,
		"readers see whole values under many writers": wholeValues,
		"what one stores another loads":               sharedValues,
		"neighbours may be stored and deleted":        neighbours,
		"a context that has ended ends calls":         endedContext,

		"a lock has one owner":                        oneOwner,
		"callers of one store queue for a lock":       ownQueue,
		"lock names may be odd":                       oddLocks,
		"waiting for a lock ends with its context":    waitEnds,
		"a lock lasts beyond its lease":               lockLasts,
		"a dead owner gives way within a lease":       deadOwner,
		"a frozen owner loses its lock, and is told":  frozenOwner,
		"Unlock needs a lock":                         unlockUnheld,
		"Close gives up locks and ends those waiting": closeEnds,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time they wait for a lease
			test(t, open)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func missingIsNotExist(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	must(t, s.Store(ctx, "missing/there", []byte("x")))
	for _, key := range []string{"missing/not", "missing/the", "missing/there/below", "missing-not/at/all"} {
		_, loaded := s.Load(ctx, key)
		_, stated := s.Stat(ctx, key)
		for call, err := range map[string]error{"load": loaded, "stat": stated} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: %v", call, key, err)
			}
		}
		if _, err := s.List(ctx, key, true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list %s: %v", key, err)
		}
		if s.Exists(ctx, key) {
			t.Errorf("%s exists", key)
		}
		if err := s.Delete(ctx, key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	if !s.Exists(ctx, "missing/there") {
		t.Error("deletions took a neighbour")
	}
}

func roundTrip(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, value := range [][]byte{[]byte("first"), every, {}, []byte("-----BEGIN"), {0}} {
		before := time.Now()
		must(t, s.Store(ctx, "trip/value", value))
		got, err := s.Load(ctx, "trip/value")
		must(t, err)
		if !bytes.Equal(got, value) {
			t.Errorf("stored %q, loaded %q", value, got)
		}
		stat, err := s.Stat(ctx, "trip/value")
		must(t, err)
		if stat.Key != "trip/value" || !stat.IsTerminal || stat.Size != int64(len(value)) {
			t.Errorf("stat of %d octets: %+v", len(value), stat)
		}
		if d := stat.Modified.Sub(before); d < -2*time.Second || d > time.Minute {
			t.Errorf("modified %v after it was stored", d)
		}
		if !s.Exists(ctx, "trip/value") {
			t.Error("it does not exist")
		}
	}
}

func folderIsNoValue(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	must(t, s.Store(ctx, "folder/of/value", []byte("x")))
	for _, key := range []string{"folder", "folder/of"} {
		stat, err := s.Stat(ctx, key)
		if err != nil || stat.IsTerminal || stat.Key != key {
			t.Errorf("stat %s: %+v, %v", key, stat, err)
		}
		if _, err := s.Load(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("load %s: %v", key, err)
		}
		if !s.Exists(ctx, key) {
			t.Errorf("%s does not exist", key)
		}
	}
	must(t, s.Delete(ctx, "folder/of/value"))
	if _, err := s.Stat(ctx, "folder"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder outlives its last value: %v", err)
	}
	if _, err := s.List(ctx, "folder", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("and is listed: %v", err)
	}
}

// What certmagic expects of List is what its own store does.
func listsAsFileStorage(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	model := &certmagic.FileStorage{Path: t.TempDir()}
	for _, key := range []string{"list/a/x.crt", "list/a/x.key", "list/ab/y", "list/b/c/d/e", "list/b/c!", "list/z", "list/a-b/q"} {
		must(t, s.Store(ctx, key, []byte(key)))
		must(t, model.Store(ctx, key, []byte(key)))
	}
	for _, prefix := range []string{"list", "list/a", "list/ab", "list/b", "list/b/c", "list/z", "list/none", "lis"} {
		for _, recursive := range []bool{false, true} {
			want, wantErr := model.List(ctx, prefix, recursive)
			got, err := s.List(ctx, prefix, recursive)
			if errors.Is(wantErr, fs.ErrNotExist) != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("list %s: %v, FileStorage: %v", prefix, err, wantErr)
			}
			if asSet := set(got); err == nil && (!reflect.DeepEqual(asSet, set(want)) || len(asSet) != len(got)) {
				t.Errorf("list %s recursive %v:\n%q, FileStorage:\n%q", prefix, recursive, got, want)
			}
		}
	}
	all, err := s.List(ctx, "", true)
	if err != nil || !set(all)["list/b/c/d/e"] || !set(all)["list"] {
		t.Errorf("list of all: %q, %v", all, err)
	}
}

func set(keys []string) map[string]bool {
	m := map[string]bool{}
	for _, key := range keys {
		m[key] = true
	}
	return m
}

func deleteFolder(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	for _, key := range []string{"del/a/1", "del/a/b/2", "del/a/b/c/3", "del/ab", "del/a-b", "del/a0"} {
		must(t, s.Store(ctx, key, []byte("x")))
	}
	must(t, s.Delete(ctx, "del/a"))
	got, err := s.List(ctx, "del", true)
	must(t, err)
	if want := []string{"del/a-b", "del/a0", "del/ab"}; !reflect.DeepEqual(got, want) {
		t.Errorf("left are %q, not %q", got, want)
	}
}

func largeValues(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	large := bytes.Repeat([]byte("0123456789abcdef"), maxValue/16)[:maxValue-overhead]
	must(t, s.Store(ctx, "large/value", large))
	got, err := s.Load(ctx, "large/value")
	must(t, err)
	if !bytes.Equal(got, large) {
		t.Errorf("%d octets stored, %d others loaded", len(large), len(got))
	}
	if err := s.Store(ctx, "large/value", make([]byte, maxValue+1)); !errors.Is(err, errTooLong) {
		t.Errorf("too long: %v", err)
	}
	if stat, err := s.Stat(ctx, "large/value"); err != nil || stat.Size != int64(len(large)) {
		t.Errorf("after a refusal: %+v, %v", stat, err)
	}
}

func oddKeys(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	keys := []string{
		certmagic.StorageKeys.SiteCert("acme-v02.api.letsencrypt.org-directory", "*.example.org"),
		certmagic.StorageKeys.SitePrivateKey("ca.internal-1443-dir", "2001:db8::1"),
		"acme/ca-directory/users/a+b@example.org/a.key", "acme/ca/challenge_tokens/bücher.example.json",
		"odd/ blank ", "odd/100%", "odd/%2e%2e%2f", "odd/*?[a-z]", `odd/"quoted" 'twice'`, "odd/a:b", "odd/$1{x}", "odd/-rf",
		"odd/_", "odd/...", "odd/.hidden", "odd/" + strings.Repeat("long", 50), "odd/" + strings.Repeat("deep/", 40) + "end", "odd/日本語",
		"odd/UPPER", "odd/upper", "Odd/upper", "locks-not",
	}
	for _, key := range keys {
		if err := s.Store(ctx, key, []byte("value of "+key)); err != nil {
			t.Error(err)
		}
	}
	for _, key := range keys {
		if got, err := s.Load(ctx, key); err != nil || string(got) != "value of "+key {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	all, err := s.List(ctx, "", true)
	must(t, err)
	for _, key := range keys {
		if !set(all)[key] {
			t.Errorf("%s is not listed", key)
		}
		must(t, s.Delete(ctx, key))
		if s.Exists(ctx, key) {
			t.Errorf("%s outlives its deletion", key)
		}
	}
}

func badKeys(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\x00b", "a\nb", `a\b`, "a\xffb",
		"locks", "locks/a", ".drafts/a", strings.Repeat("a", maxKey+1),
	} {
		_, loaded := s.Load(ctx, key)
		_, stated := s.Stat(ctx, key)
		for call, err := range map[string]error{
			"store": s.Store(ctx, key, []byte("x")), "load": loaded, "stat": stated, "delete": s.Delete(ctx, key),
		} {
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %q: %v", call, key, err)
			}
		}
	}
}

// A reader must never see half a value, or one of two writers' mixed.
func wholeValues(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	value := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 1+i*5000) }
	must(t, s.Store(ctx, "whole/value", value(0)))
	var writers, readers sync.WaitGroup
	done := make(chan none)
	for i := range 4 {
		writers.Go(func() {
			for range 10 {
				if err := s.Store(ctx, "whole/value", value(i)); err != nil {
					t.Error(err)
				}
			}
		})
		readers.Go(func() {
			for {
				got, err := s.Load(ctx, "whole/value")
				if err != nil || len(got) == 0 || !bytes.Equal(got, value(int(got[0]-'a'))) {
					t.Errorf("loaded %d octets, %v", len(got), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func sharedValues(t *testing.T, open func(*testing.T) Store) {
	one, other, ctx := open(t), open(t), t.Context()
	for i := range 5 {
		value := fmt.Sprintf("value %d", i)
		must(t, one.Store(ctx, "shared/value", []byte(value)))
		if got, err := other.Load(ctx, "shared/value"); err != nil || string(got) != value {
			t.Errorf("%q, %v", got, err)
		}
	}
	must(t, other.Delete(ctx, "shared"))
	if one.Exists(ctx, "shared/value") {
		t.Error("it exists after another has deleted it")
	}
}

// A folder may go at the moment when something is stored in it.
func neighbours(t *testing.T, open func(*testing.T) Store) {
	s, ctx := open(t), t.Context()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			key := fmt.Sprintf("near/by/%d", i)
			for range 15 {
				if err := s.Store(ctx, key, []byte(key)); err != nil {
					t.Error(err)
				}
				if got, err := s.Load(ctx, key); err != nil || string(got) != key {
					t.Errorf("%s: %q, %v", key, got, err)
				}
				if err := s.Delete(ctx, key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func endedContext(t *testing.T, open func(*testing.T) Store) {
	s := open(t)
	must(t, s.Store(t.Context(), "ended/a", []byte("x")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, loaded := s.Load(ctx, "ended/a")
	_, listed := s.List(ctx, "ended", true)
	for call, err := range map[string]error{
		"store": s.Store(ctx, "ended/b", nil), "load": loaded, "list": listed, "delete": s.Delete(ctx, "ended/a"), "lock": s.Lock(ctx, "ended"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if !s.Exists(t.Context(), "ended/a") {
		t.Error("a deletion was done, and said not to be")
	}
}
