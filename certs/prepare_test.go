package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Between Prepare and Commit nothing has changed, and what was made for the
// listeners meanwhile serves the new certificates afterwards.
func TestPreparedIsNotServedBeforeCommit(t *testing.T) {
	ca := newPKI(t)
	before, after := ca.files(spec{names: []string{"before.example.org"}}), ca.files(spec{names: []string{"after.example.org"}})
	s, _ := open(t, Options{Entries: pairs(before), Storage: disk(t.TempDir())})
	run(t, s)
	old := served(t, s)
	c, err := s.Prepare(t.Context(), append(pairs(after), inside("mail.internal")...))
	must(t, err)
	if got := c.Names(); !slices.Equal(got, []string{"after.example.org", "mail.internal"}) {
		t.Errorf("names to come: %q", got)
	}
	addr := serve(t, config(t, s, Policy{Listener: "smtp"}))
	s.Reload()
	if got := s.Names(); !slices.Equal(got, []string{"before.example.org"}) || served(t, s) != old {
		t.Errorf("changed before Commit: %q", got)
	}
	if _, err := s.RootPEM(); err == nil {
		t.Error("an internal CA before Commit")
	}
	if _, err := dial(addr, &tls.Config{ServerName: "before.example.org", RootCAs: ca.pool()}); err != nil {
		t.Error(err)
	}
	c.Commit()
	if got := s.Names(); !slices.Equal(got, []string{"after.example.org", "mail.internal"}) {
		t.Errorf("after Commit: %q", got)
	}
	if _, err := dial(addr, &tls.Config{ServerName: "after.example.org", RootCAs: ca.pool()}); err != nil {
		t.Error(err)
	}
	if _, err := dial(addr, &tls.Config{ServerName: "mail.internal", RootCAs: rootPool(t, s)}); err != nil {
		t.Error(err)
	}
	c.Discard() // too late
	c.Commit()
	if len(s.Names()) != 2 {
		t.Error("the second end of a change had an effect")
	}
}

func TestDiscardedLeavesNothing(t *testing.T) {
	ca := newPKI(t)
	s, _ := open(t, Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}})), Storage: disk(t.TempDir())})
	old := served(t, s)
	for range 3 {
		c, err := s.Prepare(t.Context(), inside("mail.internal"))
		must(t, err)
		c.Discard()
		c.Commit() // too late
	}
	if served(t, s) != old || len(s.Names()) != 1 {
		t.Errorf("changed: %q", s.Names())
	}
	noGoroutines(t)
	must(t, s.Apply(t.Context(), inside("mail.internal")))
	if _, err := s.RootPEM(); err != nil {
		t.Error(err)
	}
}

// A bad file in a reload is refused, and the internal CA that was opened beside
// it is closed again.
func TestRefusedChangeLeavesNothing(t *testing.T) {
	ca := newPKI(t)
	s, _ := open(t, Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}})), Storage: disk(t.TempDir())})
	bad := Pair{filepath.Join(t.TempDir(), "gone.crt"), "gone.key"}
	for _, entries := range [][]Entry{append(inside("mail.internal"), pairs(bad)...), nil, {{}}, byACME("mail.example.org"), inside("..")} {
		if c, err := s.Prepare(t.Context(), entries); err == nil {
			c.Discard()
			t.Errorf("%+v: no error", entries)
		}
		if got := s.Names(); !slices.Equal(got, []string{"mail.example.org"}) {
			t.Errorf("%+v: %q", entries, got)
		}
	}
	noGoroutines(t)
}

func TestOneChangeAtATime(t *testing.T) {
	ca := newPKI(t)
	one, two := pairs(ca.files(spec{names: []string{"one.example.org"}})), pairs(ca.files(spec{names: []string{"two.example.org"}}))
	s, _ := open(t, Options{Entries: one})
	c, err := s.Prepare(t.Context(), one)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Prepare(ctx, two); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another change is under way") {
		t.Errorf("beside another: %v", err)
	}
	applied := make(chan error, 1)
	go func() { applied <- s.Apply(context.WithoutCancel(t.Context()), two) }()
	select {
	case err := <-applied:
		t.Errorf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	c.Discard()
	must(t, <-applied)
	if got := s.Names(); !slices.Equal(got, []string{"two.example.org"}) {
		t.Errorf("%q", got)
	}
}

// The process may be told to end in the middle of a reload.
func TestCommitBehindClose(t *testing.T) {
	s, _ := open(t, Options{Entries: pairs(newPKI(t).files(spec{names: []string{"mail.example.org"}})), Storage: disk(t.TempDir())})
	c, err := s.Prepare(t.Context(), inside("mail.internal"))
	must(t, err)
	s.Close()
	c.Commit()
	noGoroutines(t)
	if !s.Ready() {
		t.Error("nothing to serve while draining")
	}
}

// A reboot with one bad pair among others: a mail server comes up, says it, and
// heals when the files do.
func TestABadPairBesideOthersHeals(t *testing.T) {
	for name, o := range map[string]Options{
		"files":    {},
		"internal": {Entries: inside("mail.internal")},
		"acme":     {Entries: byACME("acme.example.org"), ACME: &ACME{Challenges: []string{"http-01"}}},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newPKI(t)
			bad := ca.files(spec{names: []string{"bad.example.org"}})
			writeFile(t, bad.CertFile, []byte("no certificate"))
			o.Entries = slices.Concat(pairs(bad), o.Entries)
			if name == "files" {
				o.Entries = append(o.Entries, pairs(ca.files(spec{names: []string{"mail.example.org"}}))...)
			}
			o.Storage, o.PollInterval = disk(t.TempDir()), 20*time.Millisecond
			s, logs := open(t, o)
			if s.Ready() != (name != "acme") {
				t.Errorf("ready: %t", s.Ready())
			}
			at := s.Certificates()[0]
			if !strings.HasPrefix(at.Problem, "not loaded: ") || at.Source != bad.CertFile || at.LastError == "" || at.LastTry.IsZero() || at.Leaf != nil {
				t.Errorf("%+v", at)
			}
			if p := s.Problems(); !strings.HasPrefix(p[0], bad.CertFile+": not loaded: ") {
				t.Errorf("%q", p)
			}
			const said = "certificate not loaded: clients who want it get another one"
			if count(logs, said) != 1 {
				t.Errorf("said %d times: %v", count(logs, said), logs.All())
			}
			s.Reload()
			c, err := s.Prepare(t.Context(), o.Entries) // a reload that changes something else is not held up by it
			must(t, err)
			c.Commit()
			if count(logs, said) != 1 {
				t.Error("said again")
			}
			ca.write(bad, spec{names: []string{"bad.example.org"}})
			if name == "acme" {
				s.Reload()
			} else {
				run(t, s)
			}
			within(t, "healed", func() bool {
				c, err := s.Served("bad.example.org")
				return err == nil && c.Leaf.VerifyHostname("bad.example.org") == nil
			})
			if at := s.Certificates()[0]; at.Problem != "" || at.LastError != "" || !at.LastTry.IsZero() || at.Loads != 1 {
				t.Errorf("healed: %+v", at)
			}
		})
	}
}

func TestABadPairAloneIsAnError(t *testing.T) {
	ca, dir := newPKI(t), t.TempDir()
	gone, other := Pair{dir + "/gone.crt", dir + "/gone.key"}, Pair{dir + "/other.crt", dir + "/other.key"}
	good := ca.files(spec{names: []string{"mail.example.org"}})
	for name, c := range map[string]struct {
		o    Options
		says []string // empty: it opens
	}{
		"alone":             {Options{Entries: pairs(gone)}, []string{gone.CertFile}},
		"both":              {Options{Entries: pairs(gone, other)}, []string{gone.CertFile, other.CertFile}},
		"beside a good one": {Options{Entries: pairs(gone, good)}, nil},
		"… in a reload":     {Options{Entries: pairs(good, gone), Strict: true}, []string{gone.CertFile}},
	} {
		s, err := Open(t.Context(), c.o)
		if err == nil {
			s.Close()
		}
		if (err == nil) != (len(c.says) == 0) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.says {
			if err == nil || strings.Count(err.Error(), want) != 1 {
				t.Errorf("%s: %v, want %s once", name, err, want)
			}
		}
	}
}

// Who looks makes nothing, and what is missing is in the list.
func TestReadOnlyMakesNothing(t *testing.T) {
	dir := t.TempDir()
	o := Options{Storage: disk(filepath.Join(dir, "storage")), ACME: &ACME{Email: "a@example.org", Challenges: []string{"http-01"}}}
	o.Entries = slices.Concat(pairs(Pair{dir + "/gone.crt", dir + "/gone.key"}), inside("mail.internal"), byACME("acme.example.org"))
	s := lookAt(t, o, dir)
	for i, want := range []string{"gone.crt", dir + "/storage: there is no root yet", "no certificate yet"} {
		if got := s.Certificates()[i].Problem; !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := s.RootPEM(); err == nil || !strings.Contains(err.Error(), "no root yet") {
		t.Error(err)
	}

	o.Entries = inside("mail.internal")
	writer, err := Open(t.Context(), o)
	must(t, err)
	writer.Close()
	o.Entries = inside("mail.internal", "late.internal")
	all := lookAt(t, o, dir).Certificates()
	if all[0].Problem != "" || all[0].Serial != served(t, writer) || all[1].Problem != "no certificate yet" {
		t.Errorf("%+v", all)
	}
	writeFile(t, filepath.Join(path(o), "internal", "root.key"), nil)
	if p := lookAt(t, o, dir).Problems(); len(p) != 2 || !strings.Contains(p[0], "root.key") {
		t.Errorf("with a broken root: %q", p)
	}
}

// lookAt opens for reading only, tries to change something all the same, and
// checks that dir is as it was.
func lookAt(t *testing.T, o Options, dir string) *Source {
	t.Helper()
	before := tree(t, dir)
	o.ReadOnly = true
	s, logs := open(t, o)
	s.Recall(t.Context())
	if err := s.Run(t.Context()); !errors.Is(err, errReadOnly) {
		t.Errorf("runs: %v", err)
	}
	if err := s.Renew(t.Context(), "mail.internal"); !errors.Is(err, errReadOnly) {
		t.Errorf("renews: %v", err)
	}
	if logs.Len() > 0 {
		t.Errorf("logged: %v", logs.All())
	}
	if now := tree(t, dir); !slices.Equal(now, before) {
		t.Errorf("made %q", now)
	}
	return s
}

// tree lists what is in a directory, with times.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		all = append(all, path+" "+info.ModTime().String())
		return nil
	}))
	return all
}
