package certs

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenServesFilesAndInternalLeaves(t *testing.T) {
	ca := newPKI(t)
	s, _ := open(t, Options{
		Entries: append(pairs(ca.files(spec{names: []string{"mail.example.org", "smtp.example.org"}})), inside("mail.internal", "*.lab.internal", "127.0.0.1")...),
		Storage: disk(t.TempDir()),
	})
	run(t, s)
	if !s.Ready() {
		t.Error("not ready")
	}
	want := []string{"mail.example.org", "smtp.example.org", "mail.internal", "*.lab.internal", "127.0.0.1"}
	if got := s.Names(); !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	root, err := s.RootPEM()
	must(t, err)
	pool := ca.pool()
	pool.AppendCertsFromPEM(root)
	addr := serve(t, config(t, s, Policy{}))
	for _, name := range []string{"mail.example.org", "smtp.example.org", "mail.internal", "a.lab.internal", "127.0.0.1"} {
		state, err := dial(addr, &tls.Config{ServerName: name, RootCAs: pool})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "" {
			t.Errorf("%s: version %x, protocol %q", name, state.Version, state.NegotiatedProtocol)
		}
	}
}

func TestOrderOfConfigurationDecidesTheFirst(t *testing.T) {
	file := pairs(newPKI(t).files(spec{names: []string{"file.example.org"}}))
	for _, c := range []struct {
		entries []Entry
		want    string
	}{
		{slices.Concat(file, inside("one.internal", "two.internal")), "file.example.org one.internal two.internal"},
		{slices.Concat(inside("one.internal"), file, inside("two.internal")), "one.internal file.example.org two.internal"},
	} {
		s, _ := open(t, Options{Entries: c.entries, Storage: disk(t.TempDir())})
		if got := strings.Join(s.Names(), " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if got := leafNames(s.index.Load().find("", nil)[0].Leaf)[0]; !strings.HasPrefix(c.want, got) {
			t.Errorf("%s: first certificate %q", c.want, got)
		}
	}
}

// What is wrong, and then what to do.
func TestOpenErrorsSayFileAndRemedy(t *testing.T) {
	ca := newPKI(t)
	dir := t.TempDir()
	good := ca.files(spec{names: []string{"a.example.org"}})
	other := ca.files(spec{names: []string{"b.example.org"}})
	text, big := filepath.Join(dir, "text"), filepath.Join(dir, "big")
	writeFile(t, text, []byte("no certificate\n"))
	writeFile(t, big, make([]byte, maxFileSize+1))
	for _, c := range []struct {
		name string
		o    Options
		want []string
	}{
		{"nothing configured", Options{}, []string{"none configured", "name a pair"}},
		{"certificate missing", Options{Entries: pairs(Pair{dir + "/gone.crt", good.KeyFile})}, []string{dir + "/gone.crt", "check the path"}},
		{"key missing", Options{Entries: pairs(Pair{good.CertFile, dir + "/gone.key"})}, []string{dir + "/gone.key", "check the path"}},
		{"mismatch", Options{Entries: pairs(Pair{good.CertFile, other.KeyFile})}, []string{good.CertFile, other.KeyFile, "does not match", "first"}},
		{"no PEM", Options{Entries: pairs(Pair{text, good.KeyFile})}, []string{text, "PEM"}},
		{"too big", Options{Entries: pairs(Pair{big, good.KeyFile})}, []string{big, "1024 KiB"}},
		{"a directory", Options{Entries: pairs(Pair{dir, good.KeyFile})}, []string{dir, "not a file"}},
		{"no storage", Options{Entries: inside("a")}, []string{"storage.path"}},
		{"storage is a file", Options{Entries: inside("a"), Storage: disk(text)}, []string{text, "must be able to"}},
		{"no names", Options{Entries: inside(), Storage: disk(dir)}, []string{"nor names"}},
		{"bad name", Options{Entries: inside("../etc"), Storage: disk(dir)}, []string{`"../etc"`, "*.example.org"}},
	} {
		s, err := Open(context.Background(), c.o)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
}

func TestRunEndsWithItsContextAndLeavesNothing(t *testing.T) {
	ca := newPKI(t)
	s, _ := open(t, Options{
		Entries: append(pairs(ca.files(spec{names: []string{"a.example.org"}})), inside("mail.internal")...),
		Storage: disk(t.TempDir()),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	cancel()
	must(t, <-done)
	noGoroutines(t)
	s.Close() // certmagic's own Stop would panic
	if err := s.Run(context.Background()); err == nil {
		t.Error("ran twice")
	}
	if _, err := dial(serve(t, config(t, s, Policy{})), &tls.Config{ServerName: "a.example.org", RootCAs: ca.pool()}); err != nil {
		t.Errorf("does not serve while draining: %v", err)
	}
}

func TestFailedOpenLeavesNothing(t *testing.T) {
	_, err := Open(context.Background(), Options{
		Entries: append(inside("mail.internal"), pairs(Pair{"/nonexistent", "/nonexistent"})...), Storage: disk(t.TempDir()), Strict: true})
	if err == nil {
		t.Fatal("no error")
	}
	noGoroutines(t)
}

func TestStatusTellsEachCertificate(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"A.example.org"}, cn: "ignored"})
	s, _ := open(t, Options{Entries: append(pairs(pair), inside("MAIL.internal.")...), Storage: disk(t.TempDir())})
	got := s.Certificates()
	if len(got) != 2 {
		t.Fatalf("%d certificates", len(got))
	}
	file, leaf := got[0], got[1]
	if file.Source != pair.CertFile || file.Issuer != "Test Root" || file.Names[0] != "a.example.org" || file.Loads != 1 || file.LastError != "" {
		t.Errorf("file: %+v", file)
	}
	if file.Serial != served(t, s) {
		t.Errorf("serial %s, served %s", file.Serial, served(t, s))
	}
	if leaf.Source != "internal" || leaf.Names[0] != "mail.internal" || !strings.HasPrefix(leaf.Issuer, "smtpseal internal CA ") {
		t.Errorf("leaf: %+v", leaf)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < 90*day || life > 91*day {
		t.Errorf("leaf lives %v", life)
	}
}

// A certificate without alternative names is known by its common name, one
// with addresses alone by these.
func TestNamesOfOldCertificates(t *testing.T) {
	ca := newPKI(t)
	for want, s := range map[string]spec{
		"cn.example.org":  {cn: "CN.example.org"},
		"192.0.2.1":       {names: []string{"192.0.2.1"}, cn: "Box"},
		"san.example.org": {names: []string{"san.example.org", "192.0.2.1"}, cn: "cn.example.org"},
	} {
		if got := leafNames(ca.certificate(s).Leaf); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, cn := range []string{"", "My Printer", "a\r\n250 b", "*"} {
		if got := leafNames(ca.certificate(spec{cn: cn}).Leaf); len(got) != 0 {
			t.Errorf("common name %q: %q", cn, got)
		}
	}
}
