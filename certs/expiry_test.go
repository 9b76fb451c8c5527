package certs

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A certificate that nobody renews is spoken of at each mark once, and at its
// end, however often it is looked at.
func TestExpiryIsToldAtEachMarkOnce(t *testing.T) {
	pair := Pair{t.TempDir() + "/tls.crt", t.TempDir() + "/tls.key"}
	synctest.Test(t, func(t *testing.T) {
		newPKI(t).write(pair, spec{names: []string{"a.example.org"}, to: 30*day + time.Minute})
		told := runFor(t, Options{Entries: pairs(pair), PollInterval: time.Hour}, 40*day, nil)
		want := []string{"9d warn 21", "16d warn 14", "23d warn 7", "27d warn 3", "30d error"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// At a start late in its life a certificate has passed several marks: that is
// one piece of news.
func TestExpiryIsToldAtStart(t *testing.T) {
	pair := Pair{t.TempDir() + "/tls.crt", t.TempDir() + "/tls.key"}
	synctest.Test(t, func(t *testing.T) {
		newPKI(t).write(pair, spec{names: []string{"a.example.org"}, to: 5*day + time.Minute})
		told := runFor(t, Options{Entries: pairs(pair), PollInterval: time.Hour}, 3*day, nil)
		if want := []string{"0d warn 5", "2d warn 3"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// A week's certificate that is replaced in time is no reason to speak; when it
// stops being replaced, the last mark in its last third and its end are.
func TestShortCertificatesThatAreRenewedAreQuiet(t *testing.T) {
	pair := Pair{t.TempDir() + "/tls.crt", t.TempDir() + "/tls.key"}
	synctest.Test(t, func(t *testing.T) {
		ca := newPKI(t)
		renew := func() { ca.write(pair, spec{names: []string{"a.example.org"}, to: 10*day + time.Minute}) }
		renew()
		told := runFor(t, Options{Entries: pairs(pair), PollInterval: time.Hour}, 60*day, func(days int) {
			if days%5 == 1 && days < 40 {
				renew()
			}
		})
		want := []string{"0d warn 10", "43d warn 3", "46d error"}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// A leaf of the internal CA in real proportions: four months pass, it is
// renewed when a third of its life is left, and nobody hears of it.
func TestLeavesAreRenewedByTheCalendar(t *testing.T) {
	storage := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var serials []string
		var days []int
		told := runSource(t, Options{Entries: inside("mail.internal"), Storage: disk(storage), PollInterval: time.Hour, StoragePoll: 20 * time.Minute}, 130*day,
			func(s *Source, day int) {
				if now := served(t, s); len(serials) == 0 || serials[len(serials)-1] != now {
					serials, days = append(serials, now), append(days, day)
				}
			})
		if want := []int{0, 60, 120}; !slices.Equal(days, want) {
			t.Errorf("new leaves on days %v, want %v", days, want)
		}
		if len(told) != 0 {
			t.Errorf("told %q", told)
		}
	})
}

// Storage that cannot be written any more: the leaf in use stays, the status
// says so, and the log does when it gets late. Then it can be written again.
func TestRenewalThatFailsIsLoudAndRecovers(t *testing.T) {
	storage := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var first string
		broken := func(s *Source, day int) {
			switch day {
			case 50:
				first = served(t, s)
				must(t, os.Rename(storage, storage+".away"))
				writeFile(t, storage, nil)
			case 75:
				if c := s.Certificates()[0]; c.LastError == "" || served(t, s) != first {
					t.Errorf("day %d: %+v", day, c)
				}
				must(t, os.Remove(storage))
				must(t, os.Rename(storage+".away", storage))
			case 77:
				if c := s.Certificates()[0]; c.LastError != "" || served(t, s) == first {
					t.Errorf("day %d: %+v", day, c)
				}
			}
		}
		told := runSource(t, Options{Entries: inside("mail.internal"), Storage: disk(storage), PollInterval: time.Hour, StoragePoll: time.Hour}, 80*day, broken)
		if want := []string{"69d warn 21"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func runFor(t *testing.T, o Options, span time.Duration, daily func(days int)) []string {
	return runSource(t, o, span, func(_ *Source, days int) {
		if daily != nil {
			daily(days)
		}
	})
}

// runSource lets days pass inside a bubble and returns what was said about
// expiry: on which day, how loud, with how many days left.
func runSource(t *testing.T, o Options, span time.Duration, daily func(s *Source, days int)) []string {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	o.Log = zap.New(core)
	s, err := Open(t.Context(), o)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	start := time.Now()
	time.Sleep(30 * time.Minute) // not at the moment of a poll
	for days := range int(span / day) {
		daily(s, days)
		time.Sleep(day)
	}
	cancel()
	must(t, <-done)
	time.Sleep(time.Minute) // certmagic's lock keepers
	var told []string
	for _, e := range logs.All() {
		since := int(e.Time.Sub(start) / day)
		switch e.Message {
		case "certificate expires soon":
			told = append(told, fmt.Sprintf("%dd warn %d", since, e.ContextMap()["days_left"]))
		case "certificate has expired":
			told = append(told, fmt.Sprintf("%dd error", since))
		}
	}
	return told
}
