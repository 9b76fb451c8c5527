package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const otherKey = "a text that is longer than thirty-two octets, and not hexadecimal"

func inFiles(t *testing.T, path, key string) Store {
	return opener(Options{Type: "file", Path: path, EncryptionKey: key})(t)
}

func TestSealedValuesShowNothing(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	s := inFiles(t, path, testKey)
	must(t, s.Store(ctx, "a/b", []byte("PRIVATE KEY")))
	one, err := os.ReadFile(filepath.Join(path, "a", "b"))
	must(t, err)
	must(t, s.Store(ctx, "a/b", []byte("PRIVATE KEY")))
	two, err := os.ReadFile(filepath.Join(path, "a", "b"))
	must(t, err)
	if bytes.Contains(one, []byte("PRIV")) || !bytes.HasPrefix(one, []byte(magic)) || len(one) != 11+overhead {
		t.Errorf("on the disk is %q", one)
	}
	if bytes.Equal(one, two) {
		t.Error("the same value looks the same twice: the nonce is not random")
	}
}

// Whoever can write to the store can do all this; none of it may be believed.
func TestSealedRefusesWhatItDidNotWriteThere(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	s := inFiles(t, path, testKey)
	must(t, s.Store(ctx, "a/key", []byte("the one")))
	sealedValue, err := os.ReadFile(filepath.Join(path, "a", "key"))
	must(t, err)
	plant := func(value []byte) error {
		must(t, os.WriteFile(filepath.Join(path, "a", "planted"), value, 0o600))
		_, err := s.Load(ctx, "a/planted")
		return err
	}
	if err := plant([]byte("-----BEGIN PRIVATE KEY-----")); !errors.Is(err, errPlain) {
		t.Errorf("plain: %v", err)
	}
	if err := plant(sealedValue); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "a/planted") {
		t.Errorf("another key's: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(path, "a", "empty"), nil, 0o600))
	if _, err := s.Load(ctx, "a/empty"); !errors.Is(err, errPlain) {
		t.Errorf("empty: %v", err)
	}
	for i := range sealedValue {
		changed := bytes.Clone(sealedValue)
		changed[i] ^= 1
		must(t, os.WriteFile(filepath.Join(path, "a", "key"), changed, 0o600))
		if got, err := s.Load(ctx, "a/key"); err == nil {
			t.Errorf("octet %d changed: %q", i, got)
		}
		must(t, os.WriteFile(filepath.Join(path, "a", "key"), sealedValue[:i], 0o600))
		if got, err := s.Load(ctx, "a/key"); err == nil {
			t.Errorf("cut to %d: %q", i, got)
		}
	}
}

func TestWrongOrMissingEncryptionKeyIsTold(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	must(t, inFiles(t, path, testKey).Store(ctx, "a", []byte("x")))
	for key, want := range map[string]error{"": errSealed, otherKey: errBroken} {
		_, err := inFiles(t, path, key).Load(ctx, "a")
		if !errors.Is(err, want) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "storage.encryption_key") {
			t.Errorf("with %q: %v", key, err)
		}
	}
	if got, err := inFiles(t, path, strings.ToUpper(testKey)).Load(ctx, "a"); err != nil || string(got) != "x" {
		t.Errorf("the same key in capitals: %q, %v", got, err)
	}
}

func TestShortEncryptionKeyIsRefusedUnquoted(t *testing.T) {
	_, err := Open(t.Context(), Options{Type: "file", Path: t.TempDir(), EncryptionKey: testKey[:31]})
	if err == nil || !strings.Contains(err.Error(), "32 octets") || strings.Contains(err.Error(), testKey[:31]) {
		t.Error(err)
	}
}

func TestSealEncryptsAPlainStore(t *testing.T) {
	path, ctx := t.TempDir(), t.Context()
	was := inFiles(t, path, "")
	values := map[string]string{"a/b.key": "one", "a/c/d": "two", "e": ""}
	for key, value := range values {
		must(t, was.Store(ctx, key, []byte(value)))
	}
	o := Options{Type: "file", Path: path, EncryptionKey: testKey}
	for _, want := range []int{3, 0} { // a second time there is nothing to do
		if n, err := Seal(ctx, o); err != nil || n != want {
			t.Errorf("%d sealed, %v", n, err)
		}
	}
	for key, value := range values {
		if got, err := inFiles(t, path, testKey).Load(ctx, key); err != nil || string(got) != value {
			t.Errorf("%s: %q, %v", key, got, err)
		}
		if _, err := was.Load(ctx, key); !errors.Is(err, errSealed) {
			t.Errorf("%s is plain: %v", key, err)
		}
	}
	o.EncryptionKey = otherKey
	if n, err := Seal(ctx, o); !errors.Is(err, errBroken) || n != 0 {
		t.Errorf("with another key: %d sealed, %v", n, err)
	}
	o.EncryptionKey = ""
	if _, err := Seal(ctx, o); err == nil || !strings.Contains(err.Error(), "storage.encryption_key") {
		t.Errorf("with no key: %v", err)
	}
}
