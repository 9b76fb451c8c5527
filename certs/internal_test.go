package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func parseRootPEM(t testing.TB, s *Source) *x509.Certificate {
	t.Helper()
	data, err := s.RootPEM()
	must(t, err)
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 {
		t.Fatalf("root is not one PEM block: %s", data)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return root
}

func TestRootIsAProperCA(t *testing.T) {
	storage := filepath.Join(t.TempDir(), "new", "storage")
	s, _ := open(t, Options{Entries: inside("mail.internal"), Storage: disk(storage)})
	root := parseRootPEM(t, s)
	if !root.IsCA || !root.MaxPathLenZero || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
		root.PublicKeyAlgorithm != x509.ECDSA || time.Until(root.NotAfter) < 9*365*day {
		t.Errorf("root: %+v", root)
	}
	leaf := s.index.Load().any[0].Leaf
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.Subject.CommonName != "mail.internal" || leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("leaf: %+v", leaf)
	}
	must(t, filepath.WalkDir(storage, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		info, err := e.Info()
		must(t, err)
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	}))
}

func TestRootAndLeavesSurviveARestart(t *testing.T) {
	o := Options{Entries: inside("mail.internal", "*.lab.internal", "::1"), Storage: disk(t.TempDir())}
	first, _ := open(t, o)
	root, serials := parseRootPEM(t, first), first.Certificates()
	first.Close()
	o.Entries = append(o.Entries, inside("late.internal")...)
	again, _ := open(t, o)
	if !parseRootPEM(t, again).Equal(root) {
		t.Error("another root")
	}
	for i, c := range again.Certificates() {
		if i < len(serials) && c.Serial != serials[i].Serial {
			t.Errorf("%v: another leaf", c.Names)
		}
	}
	if _, err := dial(serve(t, config(t, again, Policy{})), &tls.Config{ServerName: "late.internal", RootCAs: rootPool(t, first)}); err != nil {
		t.Errorf("a name added later: %v", err)
	}
}

func rootPool(t testing.TB, s *Source) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(parseRootPEM(t, s))
	return pool
}

// A start must not need to write: storage may be read-only or full.
func TestStoredLeavesAreServedFromStorageThatCannotBeWritten(t *testing.T) {
	o := Options{Entries: inside("mail.internal"), Storage: disk(t.TempDir())}
	first, _ := open(t, o)
	want := served(t, first)
	first.Close()
	must(t, os.RemoveAll(filepath.Join(path(o), "locks")))
	writeFile(t, filepath.Join(path(o), "locks"), nil) // no lock can be taken, root or not
	again, _ := open(t, o)
	if served(t, again) != want {
		t.Error("another leaf")
	}
}

// A lost root key must not be answered by a new root in silence: every client
// would refuse us. What can be mended without the clients, is.
func TestLostPartsOfTheRoot(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(dir string)
		says  string // empty: it opens
		same  bool   // clients with the old root are served
	}{
		{"certificate", func(dir string) { os.Remove(dir + "/root.crt") }, "", true},
		{"both", func(dir string) { os.RemoveAll(dir) }, "", false},
		{"key", func(dir string) { os.Remove(dir + "/root.key") }, "root.key is missing: restore it", false},
		{"half the certificate", func(dir string) { os.Truncate(dir+"/root.crt", 100) }, "root.crt: no PEM: restore it", false},
		{"half the key", func(dir string) { os.Truncate(dir+"/root.key", 100) }, "root.key", false},
		{"key of another", func(dir string) {
			_, key := newPKI(t).issue(spec{})
			writeFile(t, dir+"/root.key", key)
		}, "does not belong to", false},
		{"not a CA", func(dir string) {
			cert, key := newPKI(t).issue(spec{})
			writeFile(t, dir+"/root.crt", cert)
			writeFile(t, dir+"/root.key", key)
		}, "not a CA", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Entries: inside("mail.internal"), Storage: disk(t.TempDir())}
			first, _ := open(t, o)
			old := rootPool(t, first)
			first.Close()
			c.spoil(filepath.Join(path(o), "internal"))
			again, err := Open(context.Background(), o)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path(o)) {
					t.Errorf("%v, want %q", err, c.says)
				}
				return
			}
			must(t, err)
			defer again.Close()
			addr := serve(t, config(t, again, Policy{}))
			if _, err := dial(addr, &tls.Config{ServerName: "mail.internal", RootCAs: rootPool(t, again)}); err != nil {
				t.Errorf("with the new root: %v", err)
			}
			if _, err := dial(addr, &tls.Config{ServerName: "mail.internal", RootCAs: old}); (err == nil) != c.same {
				t.Errorf("with the old root: %v", err)
			}
		})
	}
}

func TestNoRootWithoutInternalCA(t *testing.T) {
	s, _ := open(t, Options{Entries: pairs(newPKI(t).files(spec{names: []string{"a.example.org"}}))})
	if _, err := s.RootPEM(); err == nil {
		t.Error("no error")
	}
}

// Leaves of seconds are renewed under load: nobody fails, the key stays, a
// connection that was up before stays up.
func TestRenewalUnderLoad(t *testing.T) {
	s, _ := open(t, Options{Entries: inside("mail.internal"), Storage: disk(t.TempDir()),
		LeafLifetime: 4 * time.Second, PollInterval: 20 * time.Millisecond})
	run(t, s)
	addr := serve(t, config(t, s, Policy{}))
	pool := rootPool(t, s)
	long, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "mail.internal", RootCAs: pool})
	must(t, err)
	defer long.Close()

	seen, keys := map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	var clients sync.WaitGroup
	var handshakes atomic.Int64
	end := time.Now().Add(10 * time.Second)
	for range 2 {
		clients.Go(func() {
			for time.Now().Before(end) {
				state, err := dial(addr, &tls.Config{ServerName: "mail.internal", RootCAs: pool})
				if err != nil {
					t.Error(err)
					return
				}
				handshakes.Add(1)
				leaf := state.PeerCertificates[0]
				mu.Lock()
				seen[leaf.SerialNumber.Text(16)], keys[string(leaf.RawSubjectPublicKeyInfo)] = true, true
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	t.Logf("%d handshakes, %d leaves", handshakes.Load(), len(seen))
	if len(seen) < 3 || len(keys) != 1 {
		t.Errorf("%d leaves, %d keys", len(seen), len(keys))
	}
	if c := s.Certificates()[0]; c.Loads < 3 || c.LastError != "" {
		t.Errorf("status: %+v", c)
	}
	if _, err := long.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := long.Read(make([]byte, 1)); err != nil {
		t.Errorf("the session of before: %v", err)
	}
}

func TestManyAtOnceMakeOneRoot(t *testing.T) {
	o := Options{Entries: inside("mail.internal"), Storage: disk(t.TempDir())}
	roots, leaves := make([]string, 6), make([]string, 6)
	var all sync.WaitGroup
	for i := range roots {
		all.Go(func() {
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			root, _ := s.RootPEM()
			roots[i], leaves[i] = string(root), served(t, s)
		})
	}
	all.Wait()
	for i := range roots {
		if roots[i] != roots[0] || leaves[i] != leaves[0] {
			t.Errorf("%d has another root or leaf", i)
		}
	}
}

// TestMain lets the test binary play a second process: with this variable set
// it opens a Source and prints its root.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CERTS_TEST_STORAGE"); dir != "" {
		s, err := Open(context.Background(), Options{Entries: inside("mail.internal"), Storage: disk(dir)})
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		root, _ := s.RootPEM()
		os.Stdout.Write(root)
		os.Exit(0)
	}
	if settings := os.Getenv(replicaVariable); settings != "" {
		os.Exit(beReplica(settings))
	}
	flag.Parse()
	flag.Set("test.parallel", "12") // those that run beside each other wait, mostly
	os.Exit(m.Run())
}

func TestTwoProcessesAtOnceMakeOneRoot(t *testing.T) {
	for range 3 {
		dir := t.TempDir()
		var out [2]bytes.Buffer
		var cmds [2]*exec.Cmd
		for i := range cmds {
			cmds[i] = exec.Command(os.Args[0])
			cmds[i].Env = append(os.Environ(), "CERTS_TEST_STORAGE="+dir)
			cmds[i].Stdout, cmds[i].Stderr = &out[i], os.Stderr
			must(t, cmds[i].Start())
		}
		for _, c := range cmds {
			must(t, c.Wait())
		}
		if out[0].String() != out[1].String() || !strings.Contains(out[0].String(), "BEGIN CERTIFICATE") {
			t.Errorf("roots:\n%s\n%s", &out[0], &out[1])
		}
		s, _ := open(t, Options{Entries: inside("mail.internal"), Storage: disk(dir)})
		if _, err := dial(serve(t, config(t, s, Policy{})), &tls.Config{ServerName: "mail.internal", RootCAs: rootPool(t, s)}); err != nil {
			t.Error(err)
		}
	}
}

func TestInternalNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, want := range map[string]string{
		"mail.internal":                   "mail.internal",
		"MAIL.Internal.":                  "mail.internal",
		"localhost":                       "localhost",
		"*.lab.internal":                  "*.lab.internal",
		"my_printer.lan":                  "my_printer.lan",
		"postbüro.example":                "xn--postbro-r2a.example",
		"127.0.0.1":                       "127.0.0.1",
		"::FFFF:127.0.0.1":                "127.0.0.1",
		"2001:DB8:0:0::1":                 "2001:db8::1",
		"[::1]":                           "::1",
		"fe80::1%eth0":                    "fe80::1",
		long + ".example":                 long + ".example",
		"":                                "",
		"*":                               "",
		"*.":                              "",
		"a.*.example":                     "",
		"a*.example":                      "",
		"**.example":                      "",
		"a..example":                      "",
		".example":                        "",
		"../../etc/passwd":                "",
		"a/b":                             "",
		"a b":                             "",
		"a@example.org":                   "",
		"-a.example":                      "",
		"a-.example":                      "",
		"a\x00.example":                   "",
		long + "a.example":                "",
		strings.Repeat(long+".", 4) + "x": "",
	} {
		got, err := internalName(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
}

// One name given twice has one leaf; spelling is no matter.
func TestSameNameTwice(t *testing.T) {
	s, _ := open(t, Options{Entries: []Entry{{Internal: true, Names: []string{"mail.internal", "MAIL.internal."}}, {Internal: true, Names: []string{"mail.internal"}}}, Storage: disk(t.TempDir())})
	if got := s.Names(); len(got) != 1 {
		t.Errorf("names %q", got)
	}
	if got := s.Certificates(); len(got) != 1 {
		t.Errorf("%d leaves", len(got))
	}
}
