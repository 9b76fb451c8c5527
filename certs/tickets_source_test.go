package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"smtpseal/certs/storage"
)

// encrypted opens a store of its own on dir, as another process would.
func encrypted(t *testing.T, dir, key string) storage.Store {
	t.Helper()
	s, err := storage.Open(t.Context(), storage.Options{Type: "file", Path: dir, EncryptionKey: key})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// sharing runs a Source on a store.
func sharing(t *testing.T, ca *pki, s storage.Store) (*Source, *observer.ObservedLogs) {
	t.Helper()
	source, logs := open(t, Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}})), Storage: s})
	run(t, source)
	return source, logs
}

// within waits until a Source has done what it does by itself.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not " + what)
		}
	}
}

func TestSourcesShareTicketsThroughAnEncryptedStore(t *testing.T) {
	ca, dir, key := newPKI(t), t.TempDir(), strings.Repeat("k", 40)
	caFile := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, caFile, newPKI(t).pem)
	smtp := Policy{SessionTickets: "shared", Listener: "smtp"}
	one, oneLogs := sharing(t, ca, encrypted(t, dir, key))
	other, otherLogs := sharing(t, ca, encrypted(t, dir, key))
	at, there := config(t, one, smtp), config(t, other, smtp)
	within(t, "the same key", func() bool {
		return resumes(t, tls.VersionTLS13, at, there) && resumes(t, tls.VersionTLS13, there, at)
	})
	stranger := smtp
	stranger.Listener = "submissions"
	closed := smtp
	closed.ClientAuth, closed.ClientCAFile = "request", caFile
	alone := smtp
	alone.SessionTickets = "per_process"
	forVersions(t, func(t *testing.T, version uint16) {
		if !resumes(t, version, at, there) || !resumes(t, version, at, config(t, other, smtp)) {
			t.Error("not resumed")
		}
		for _, p := range []Policy{stranger, closed, alone} {
			for _, s := range []*Source{one, other} {
				if resumes(t, version, at, config(t, s, p)) || resumes(t, version, config(t, s, p), at) {
					t.Errorf("%+v shares tickets with %+v", p, smtp)
				}
			}
		}
		// the same listener again after its file of CAs has changed
		before := config(t, one, closed)
		if !resumes(t, version, before, config(t, other, closed)) {
			t.Error("not resumed where client certificates are asked for")
		}
		writeFile(t, caFile, newPKI(t).pem)
		if resumes(t, version, before, config(t, other, closed)) {
			t.Error("resumed under other CAs")
		}
	})

	one.tickets.mu.Lock()
	secret := one.tickets.inUse()[0].secret()
	one.tickets.mu.Unlock()
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("secret")) || bytes.Contains(data, secret[:]) {
			t.Errorf("%s is not encrypted", path)
		}
		return err
	}))
	if oneLogs.FilterMessageSnippet("made a new key").Len()+otherLogs.FilterMessageSnippet("made a new key").Len() != 1 {
		t.Error("not one of the two made the key")
	}
}

// A replica with another encryption key must not replace what it cannot read.
func TestWrongEncryptionKeyLeavesTheTicketKeysAlone(t *testing.T) {
	ca, dir := newPKI(t), t.TempDir()
	policy := Policy{SessionTickets: "shared", Listener: "smtp"}
	right, _ := sharing(t, ca, encrypted(t, dir, strings.Repeat("k", 40)))
	c := config(t, right, policy)
	path := filepath.Join(dir, filepath.FromSlash(ticketsKey))
	var before []byte
	within(t, "stored", func() (done bool) {
		data, err := os.ReadFile(path)
		before = data
		return err == nil
	})
	wrong, logs := sharing(t, ca, encrypted(t, dir, strings.Repeat("w", 40)))
	d := config(t, wrong, policy)
	within(t, "reported", func() bool { return logs.FilterMessageSnippet("no keys from the storage yet").Len() == 1 })
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the list was changed, or is gone: %v", err)
	}
	if resumes(t, tls.VersionTLS13, c, d) || !resumes(t, tls.VersionTLS13, d, d) || !resumes(t, tls.VersionTLS13, c, c) {
		t.Error("each must open its own tickets, and only those")
	}
}

func TestTicketsOfOneProcessAreNotStored(t *testing.T) {
	ca, store := newPKI(t), newMemory()
	s, err := Open(context.Background(), Options{Entries: pairs(ca.files(spec{})), Storage: store})
	must(t, err)
	run(t, s)
	for _, p := range []Policy{{}, {SessionTickets: "per_process", Listener: "smtp"}, {SessionTickets: "off", Listener: "smtp"}} {
		config(t, s, p)
	}
	s.tickets.poll(t.Context())
	if store.Exists(t.Context(), ticketsKey) {
		t.Error("ticket keys in the storage")
	}
}

// check makes policies with a Source that was never opened.
func TestZeroSourceChecksSharedTickets(t *testing.T) {
	var none Source
	config(t, &none, Policy{SessionTickets: "shared", Listener: "smtp"})
	if _, err := none.TLSConfig(Policy{SessionTickets: "shared"}); err == nil {
		t.Error("a listener without a name")
	}
}
