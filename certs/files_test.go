package certs

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	loaded   = "certificate loaded"
	rejected = "certificate not replaced: the one in use stays"
)

// Every state of the disk that must not reach a client, then a good one.
func TestBadFilesNeverReplaceTheOneInUse(t *testing.T) {
	ca := newPKI(t)
	name := []string{"mail.example.org"}
	for _, c := range []struct {
		name  string
		spoil func(p Pair)
		says  string
	}{
		{"key of another certificate", func(p Pair) {
			_, key := ca.issue(spec{names: name})
			writeFile(t, p.KeyFile, key)
		}, "does not match"},
		{"half a certificate", func(p Pair) {
			cert, key := ca.issue(spec{names: name})
			writeFile(t, p.KeyFile, key)
			writeFile(t, p.CertFile, cert[:len(cert)/2])
		}, "PEM"},
		{"half a key", func(p Pair) {
			cert, key := ca.issue(spec{names: name})
			writeFile(t, p.CertFile, cert)
			writeFile(t, p.KeyFile, key[:len(key)/2])
		}, "PEM"},
		{"empty", func(p Pair) { writeFile(t, p.CertFile, nil) }, "PEM"},
		{"garbage", func(p Pair) {
			writeFile(t, p.CertFile, encode("CERTIFICATE", []byte("not DER")))
		}, "PEM"},
		{"chain upside down", func(p Pair) {
			cert, key := ca.issue(spec{names: name})
			writeFile(t, p.CertFile, append(slices.Clone(ca.pem), cert...))
			writeFile(t, p.KeyFile, key)
		}, "own certificate first"},
		{"expired", func(p Pair) {
			ca.write(p, spec{names: name, from: -20 * time.Second, to: -time.Second})
		}, "expired on"},
		{"not valid yet", func(p Pair) {
			ca.write(p, spec{names: name, from: time.Hour, to: 200 * day})
		}, "valid from"},
		{"older", func(p Pair) {
			ca.write(p, spec{names: name, from: -10 * day, to: 80 * day})
		}, "older than the one in use"},
		{"certificate gone", func(p Pair) { os.Remove(p.CertFile) }, "no such file"},
		{"key gone", func(p Pair) { os.Remove(p.KeyFile) }, "no such file"},
		{"a directory", func(p Pair) {
			os.Remove(p.CertFile)
			must(t, os.Mkdir(p.CertFile, 0o700))
		}, "not a file"},
		{"huge", func(p Pair) { writeFile(t, p.CertFile, make([]byte, 3<<20)) }, "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair := ca.files(spec{names: name})
			s, logs := open(t, Options{Entries: pairs(pair)})
			before := served(t, s)
			c.spoil(pair)
			if err := tryReload(s, pair); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), filepath.Dir(pair.CertFile)) {
				t.Errorf("reload: %v", err)
			}
			for range 5 { // the same bytes are one piece of news
				s.Reload()
			}
			if served(t, s) != before {
				t.Fatal("served")
			}
			got := s.Certificates()[0]
			if got.Rejected != 1 || got.Loads != 1 || !strings.Contains(got.LastError, c.says) || got.Remedy != mendRemedy {
				t.Errorf("status: %+v", got)
			}
			if n := count(logs, rejected); n != 1 {
				t.Errorf("%d errors logged", n)
			}

			if err := tryReload(s, pair); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("reload behind the poll: %v", err)
			}

			os.RemoveAll(pair.CertFile)
			ca.write(pair, spec{names: name, to: 91 * day})
			must(t, tryReload(s, pair))
			s.Reload()
			if served(t, s) == before {
				t.Error("good again, but not taken")
			}
			if got := s.Certificates()[0]; got.LastError+got.Remedy != "" || got.Loads != 2 {
				t.Errorf("status afterwards: %+v", got)
			}
		})
	}
}

// Older is older by both dates, else a change to a CA with other terms would
// be taken for a mistake.
func TestOlder(t *testing.T) {
	ca := newPKI(t)
	for _, c := range []struct {
		name     string
		from, to time.Duration
		taken    bool
	}{
		{"renewed", -time.Hour, 90 * day, true},
		{"shorter terms", -time.Hour, 20 * day, true},
		{"bought long ago, lasts longer", -100 * day, 200 * day, true},
		{"same dates", -5 * day, 40 * day, true},
		{"same start, earlier end", -5 * day, 30 * day, false},
		{"earlier start, same end", -6 * day, 40 * day, false},
		{"earlier both", -20 * day, 30 * day, false},
	} {
		now := time.Now()
		current := ca.certificate(spec{from: -5 * day, to: 40 * day}).Leaf
		next := *current
		next.NotBefore, next.NotAfter = now.Add(c.from), now.Add(c.to)
		if c.from == -5*day {
			next.NotBefore = current.NotBefore
		}
		if c.to == 40*day {
			next.NotAfter = current.NotAfter
		}
		if err := better(&next, current, now); (err == nil) != c.taken {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A restart with an expired certificate must not stop the mail: most clients
// on port 25 do not look at it. Whatever comes next is better.
func TestExpiredAtStartIsServedLoudly(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"a.example.org"}, from: -10 * day, to: -day})
	s, logs := open(t, Options{Entries: pairs(pair)})
	before := served(t, s)
	if count(logs, "certificate has expired") != 1 {
		t.Error("not logged")
	}
	if got := s.Certificates()[0].Remedy; got != renewRemedy {
		t.Errorf("remedy %q", got)
	}
	ca.write(pair, spec{names: []string{"a.example.org"}})
	s.Reload()
	if served(t, s) == before {
		t.Error("not replaced")
	}
}

func TestKeyThatEverybodyCanReadIsWarnedOfOnce(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"a.example.org"}})
	must(t, os.Chmod(pair.KeyFile, 0o644))
	s, logs := open(t, Options{Entries: pairs(pair)})
	ca.write(pair, spec{names: []string{"a.example.org"}})
	s.Reload()
	if n := count(logs, "private key can be read by every user of this machine"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// Opening a pipe that nobody writes to would block the poll for ever.
func TestPipeIsRefusedNotOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, _, err := readFile(path); err == nil || !strings.Contains(err.Error(), "not a file") {
		t.Error(err)
	}
}

// Root may open everything, so the test takes a file whose reading fails.
func TestReadErrorsNameTheFile(t *testing.T) {
	if _, _, err := readFile("/proc/self/mem"); err == nil || !strings.Contains(err.Error(), "/proc/self/mem") {
		t.Error(err)
	}
}

// Kubernetes changes a mounted Secret by renaming the link ..data.
func TestDataLinkSwap(t *testing.T) {
	ca := newPKI(t)
	dir := t.TempDir()
	pair := Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	swap := func(version int) {
		to := filepath.Join(dir, fmt.Sprintf("..2026_%d", version))
		must(t, os.Mkdir(to, 0o700))
		ca.write(Pair{to + "/tls.crt", to + "/tls.key"}, spec{names: []string{"mail.example.org"}})
		must(t, os.Symlink(filepath.Base(to), dir+"/..tmp"))
		must(t, os.Rename(dir+"/..tmp", dir+"/..data"))
		os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", version-1)))
	}
	swap(0)
	must(t, os.Symlink("..data/tls.crt", pair.CertFile))
	must(t, os.Symlink("..data/tls.key", pair.KeyFile))
	s, logs := open(t, Options{Entries: pairs(pair), PollInterval: 10 * time.Millisecond})
	run(t, s)
	for version := 1; version <= 6; version++ {
		before := served(t, s)
		swap(version)
		eventually(t, func() bool { return served(t, s) != before })
	}
	if n := count(logs, loaded); n != 7 {
		t.Errorf("%d loads", n)
	}
}

// A connection that is up does not notice, and names may change too.
func TestReplacementTouchesNoSession(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"old.example.org"}})
	s, _ := open(t, Options{Entries: pairs(pair)})
	addr := serve(t, config(t, s, Policy{}))
	conn, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "old.example.org", RootCAs: ca.pool()})
	must(t, err)
	defer conn.Close()
	ca.write(pair, spec{names: []string{"new.example.org"}})
	s.Reload()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if _, err := dial(addr, &tls.Config{ServerName: "new.example.org", RootCAs: ca.pool()}); err != nil {
		t.Error(err)
	}
	if got := s.Names(); len(got) != 1 || got[0] != "new.example.org" {
		t.Errorf("names %q", got)
	}
}

// A writer that is not atomic leaves half files and wrong pairs behind, twenty
// times a second.
func TestCarelessWriterUnderLoad(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"mail.example.org"}})
	s, logs := open(t, Options{Entries: pairs(pair), PollInterval: 2 * time.Millisecond})
	run(t, s)
	addr := serve(t, config(t, s, Policy{}))

	stop := make(chan struct{})
	var writer, clients sync.WaitGroup
	writer.Go(func() { writeCarelessly(ca, pair, stop) })
	var done atomic.Int64
	for range 4 {
		clients.Go(func() {
			for done.Add(1) <= 2000 {
				if _, err := dial(addr, &tls.Config{ServerName: "mail.example.org", RootCAs: ca.pool()}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	writer.Wait()
	s.Reload()
	got := s.Certificates()[0]
	t.Logf("2000 handshakes, %d loads, %d rejected", got.Loads, got.Rejected)
	if got.Loads < 5 || got.Rejected < 5 {
		t.Errorf("the writer was not careless enough: %+v", got)
	}
	disk, err := os.ReadFile(pair.CertFile)
	must(t, err)
	last, err := tls.X509KeyPair(disk, mustRead(t, pair.KeyFile))
	must(t, err)
	if serialOf(last.Leaf) != served(t, s) {
		t.Error("the last pair is not the one in use")
	}
	if count(logs, loaded) != got.Loads || count(logs, rejected) != got.Rejected {
		t.Error("log and status disagree")
	}
}

func writeCarelessly(ca *pki, pair Pair, stop chan struct{}) {
	random := rand.New(rand.NewPCG(1, 2))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		cert, key := ca.issue(spec{names: []string{"mail.example.org"}})
		for _, half := range []struct {
			path string
			data []byte
		}{{pair.CertFile, cert}, {pair.KeyFile, key}} {
			file, err := os.Create(half.path) // truncates first
			must(ca.t, err)
			at := random.IntN(len(half.data))
			for _, part := range [][]byte{half.data[:at], half.data[at:]} {
				_, err = file.Write(part)
				must(ca.t, err)
				time.Sleep(5 * time.Millisecond)
			}
			file.Close()
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// Readings that differ are neither an error nor a certificate.
func TestReadNoticesASwapUnderWay(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"a.example.org"}})
	f := &pairFile{Pair: pair}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	cert := mustRead(t, pair.CertFile)
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				tmp := pair.CertFile + ".tmp"
				writeFile(t, tmp, append(bytes.Clone(cert), fmt.Sprint(i)...))
				must(t, os.Rename(tmp, pair.CertFile))
			}
		}
	})
	eventually(t, func() bool {
		_, err := f.read()
		return err == errUnderway
	})
	close(stop)
	writer.Wait()
	if _, err := f.read(); err != nil {
		t.Error(err)
	}
}

func TestRememberedRejectionsAreBounded(t *testing.T) {
	ca := newPKI(t)
	pair := ca.files(spec{names: []string{"a.example.org"}})
	s, logs := open(t, Options{Entries: pairs(pair)})
	for i := range 10 * maxReported {
		writeFile(t, pair.CertFile, fmt.Append(nil, i))
		s.Reload()
	}
	if n := len(s.keepers[0].(*pairFile).reported); n > maxReported {
		t.Errorf("%d remembered", n)
	}
	if n := count(logs, rejected); n != 10*maxReported {
		t.Errorf("%d logged", n)
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}
