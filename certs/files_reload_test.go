package certs

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// tryReload prepares pairs and gives the change up: what is served stays.
func tryReload(s *Source, all ...Pair) error {
	c, err := s.Prepare(context.Background(), pairs(all...))
	if err == nil {
		c.Discard()
	}
	return err
}

// What a start serves loudly, since there may be nothing better, a reload
// refuses: there is.
func TestReloadRefusesANewPairByItsDates(t *testing.T) {
	for name, c := range map[string]struct {
		from, to time.Duration
		says     string // empty: it is taken
	}{
		"expired":       {-10 * day, -time.Hour, "expired on"},
		"not valid yet": {time.Hour, 10 * day, "valid from"},
		"valid":         {-time.Hour, 10 * day, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newPKI(t)
			good, next := ca.files(spec{names: []string{"a.example.org"}}), ca.files(spec{names: []string{"b.example.org"}, from: c.from, to: c.to})
			s, logs := open(t, Options{Entries: pairs(good)})
			before := served(t, s)
			err := s.Apply(t.Context(), pairs(good, next))
			if (err == nil) != (c.says == "") {
				t.Fatal(err)
			}
			if c.says == "" {
				return
			}
			if !strings.Contains(err.Error(), next.CertFile+": certificate on disk") || !strings.Contains(err.Error(), c.says) {
				t.Error(err)
			}
			if got := s.Names(); served(t, s) != before || !slices.Equal(got, []string{"a.example.org"}) || count(logs, loaded) != 1 {
				t.Errorf("served: %q", got)
			}
			for _, strict := range []bool{false, true} {
				open(t, Options{Entries: pairs(good, next), Strict: strict})
			}
		})
	}
}

// The administrator who changes something else need not renew first: what is on
// the disk is what is in use. Only other contents are looked at.
func TestReloadBearsWhatExpiredInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newPKI(t)
		name := []string{"a.example.org"}
		pair, other := ca.files(spec{names: name, to: day}), ca.files(spec{names: []string{"b.example.org"}})
		s, _ := open(t, Options{Entries: pairs(pair)})
		time.Sleep(2 * day)
		must(t, s.Apply(t.Context(), pairs(pair, other)))
		s.Reload()
		if p := s.Certificates()[0].Problem; !strings.HasPrefix(p, "expired on") {
			t.Errorf("problem %q", p)
		}
		_, key := ca.issue(spec{names: name})
		writeFile(t, pair.KeyFile, key)
		if err := tryReload(s, pair); err == nil || !strings.Contains(err.Error(), pair.KeyFile) {
			t.Errorf("a key of another: %v", err)
		}
		ca.write(pair, spec{names: name})
		must(t, tryReload(s, pair))
	})
}

// Half a file is refused, and neither counted nor remembered: the next reload
// finds it whole.
func TestReloadTakesWhatTheOneBeforeFoundHalf(t *testing.T) {
	ca := newPKI(t)
	name := []string{"a.example.org"}
	pair := ca.files(spec{names: name})
	s, logs := open(t, Options{Entries: pairs(pair)})
	before, status := served(t, s), s.Certificates()[0]
	cert, key := ca.issue(spec{names: name, to: 100 * day})
	writeFile(t, pair.KeyFile, key)
	writeFile(t, pair.CertFile, cert[:len(cert)/2])
	if err := tryReload(s, pair); err == nil || !strings.Contains(err.Error(), pair.CertFile) || !strings.Contains(err.Error(), pemRemedy) {
		t.Errorf("half: %v", err)
	}
	if now := s.Certificates()[0]; now.Rejected != status.Rejected || now.LastError != "" || count(logs, rejected) != 0 {
		t.Errorf("status: %+v", now)
	}
	writeFile(t, pair.CertFile, cert)
	must(t, s.Apply(t.Context(), pairs(pair)))
	if served(t, s) != before {
		t.Error("Prepare and Commit take nothing")
	}
	s.Reload()
	if after := served(t, s); after == before || s.Certificates()[0].Loads != 2 {
		t.Error("not taken")
	}
	s.Reload()
	if s.Certificates()[0].Loads != 2 {
		t.Error("taken twice")
	}
}

// A poll that takes the new pair just before a reload reads the files must not
// make the reload see the old one coming back. It is tried a few times, since
// nothing forces the reload to begin while the poll is at work.
func TestReloadBesideThePoll(t *testing.T) {
	ca := newPKI(t)
	name := []string{"a.example.org"}
	pair := ca.files(spec{names: name})
	writeFile(t, pair.CertFile, slices.Concat(mustRead(t, pair.CertFile), mustRead(t, pair.KeyFile)))
	pair.KeyFile = pair.CertFile // both are swapped at once
	s, _ := open(t, Options{Entries: pairs(pair)})
	for i := range 5 {
		done := make(chan error, 1)
		s.mu.Lock()
		go func() { done <- tryReload(s, pair) }()
		cert, key := ca.issue(spec{names: name, rsa: true, to: 91*day + time.Duration(i)*day}) // takes its time
		writeFile(t, pair.CertFile+".tmp", slices.Concat(cert, key))
		must(t, os.Rename(pair.CertFile+".tmp", pair.CertFile))
		took := s.keepers[0].look()
		s.mu.Unlock()
		if err := <-done; err != nil || !took {
			t.Fatalf("taken: %t, reload: %v", took, err)
		}
	}
}
