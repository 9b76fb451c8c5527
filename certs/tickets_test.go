package certs

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestSharedTicketsResumeAtAnotherReplica(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		inBubble(t, func(t *testing.T, cert *tls.Certificate) {
			store := newMemory()
			one, other := newReplica(t, cert, store), newReplica(t, cert, store)
			one.start(t)
			other.start(t)
			synctest.Wait()
			if !resumes(t, version, one.tls, other.tls) || !resumes(t, version, other.tls, one.tls) {
				t.Error("not resumed")
			}
			late := newReplica(t, cert, store) // also one that starts later
			late.start(t)
			synctest.Wait()
			if !resumes(t, version, one.tls, late.tls) || !resumes(t, version, late.tls, one.tls) {
				t.Error("not resumed at a replica that started later")
			}
			// a configuration made by a reload, which has the keys at once
			if !resumes(t, version, one.tls, late.listener(cert, "smtp", "policy")) {
				t.Error("not resumed after a reload")
			}
		})
	})
}

// CVE-2025-23419 was a session begun where no client certificate is wanted,
// resumed where one is required.
func TestSharedTicketOfAnotherListenerIsRefused(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		inBubble(t, func(t *testing.T, cert *tls.Certificate) {
			store := newMemory()
			one, other := newReplica(t, cert, store), newReplica(t, cert, store)
			one.start(t)
			other.start(t)
			synctest.Wait()
			for _, c := range []struct{ name, policy string }{
				{"submission", "policy"}, {"smtp", "another policy"}, {`smtp" "policy`, ""}, {"smt", "ppolicy"},
			} {
				for _, at := range []*replica{one, other} {
					if resumes(t, version, one.tls, at.listener(cert, c.name, c.policy)) {
						t.Errorf("%+v took a ticket of smtp", c)
					}
				}
			}
			plain := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
			if resumes(t, version, one.tls, plain) || resumes(t, version, plain, one.tls) {
				t.Error("a listener with keys of its own took part")
			}
		})
	})
}

// Three replicas whose polls do not coincide, for nine days: whoever has a
// ticket of one resumes at any other, at every moment around a rotation.
func TestRotationFailsNoResumption(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		var all []*replica
		for range 3 {
			r := newReplica(t, cert, store)
			r.start(t)
			all = append(all, r)
			time.Sleep(11 * time.Second)
		}
		time.Sleep(ticketPoll)
		visits, seals := 0, map[string]bool{}
		visit := func(version uint16) {
			t.Helper()
			one, other := all[visits%3], all[(visits+1+visits/3%2)%3]
			visits++
			seals[one.sealed()] = true
			if !resumes(t, version, one.tls, other.tls) {
				t.Errorf("%s: not resumed at another replica", time.Now())
			}
		}
		keep := newVisitor(t, tls.VersionTLS13) // comes back every day with the ticket of its last visit
		keep.visit(all[0].tls)
		for d := range 9 {
			rotation := listed(t, store)[0].made.Add(ticketRotation)
			time.Sleep(time.Until(rotation) - 10*time.Second)
			for range 60 { // 10 s before the new key is made, until 3 min after
				visit(tls.VersionTLS12 + uint16(visits%2))
				time.Sleep(3200 * time.Millisecond)
			}
			if !keep.visit(all[d%3].tls) {
				t.Errorf("day %d: not resumed after a day", d)
			}
			if keys := listed(t, store); len(keys) != min(d+2, maxTicketKeys) {
				t.Errorf("day %d: %d keys", d, len(keys))
			}
		}
		if len(seals) != 10 {
			t.Errorf("%d keys sealed in nine days", len(seals))
		}
	})
}

func TestTicketKeyIsAnnouncedBeforeItSeals(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		one, other := newReplica(t, cert, store), newReplica(t, cert, store)
		one.start(t)
		time.Sleep(ticketPoll - time.Second) // polls a second later than other
		other.start(t)
		time.Sleep(time.Second)
		old := one.sealed()
		for len(listed(t, store)) == 1 {
			time.Sleep(time.Second)
		}
		made := time.Now()
		fresh := listed(t, store)[0]
		for time.Since(made) < 2*ticketPoll { // two polls of everybody
			if one.sealed() != old || other.sealed() != old {
				t.Fatalf("seals %s after it was made", time.Since(made))
			}
			time.Sleep(time.Second)
		}
		if !one.opens(fresh.id) || !other.opens(fresh.id) {
			t.Error("somebody does not know the new key yet")
		}
		time.Sleep(2 * ticketPoll)
		if one.sealed() != fresh.id || other.sealed() != fresh.id {
			t.Error("does not seal in the end")
		}
		if !one.opens(old) || !other.opens(old) {
			t.Error("the old one opens no more")
		}
	})
}

// The ticket is six days old when the key that sealed it dies, so that it is
// not crypto/tls that refuses it.
func TestTicketKeyIsDeadAfterSevenDays(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		inBubble(t, func(t *testing.T, cert *tls.Certificate) {
			store := newMemory()
			r := newReplica(t, cert, store)
			r.start(t)
			synctest.Wait()
			began := time.Now()
			time.Sleep(ticketRotation - time.Minute)
			early, late := newVisitor(t, version), newVisitor(t, version)
			early.visit(r.tls)
			late.visit(r.tls)
			time.Sleep(time.Until(began.Add(ticketLifetime - time.Minute)))
			if !early.visit(r.tls) {
				t.Error("dead before its seventh day ended")
			}
			time.Sleep(2 * time.Minute)
			if late.visit(r.tls) {
				t.Error("alive on its eighth day")
			}
			if keys := listed(t, store); len(keys) != maxTicketKeys || keys[len(keys)-1].made.Equal(began) {
				t.Errorf("%d keys, the oldest of %s", len(keys), keys[len(keys)-1].made)
			}
		})
	})
}

func TestThreeProcessesMakeOneKey(t *testing.T) {
	cert := newPKI(t).certificate(spec{names: []string{"mail.example.org"}})
	for range 20 {
		store := newMemory()
		var all []*replica
		var polls sync.WaitGroup
		for range 3 {
			r := newReplica(t, cert, store)
			all = append(all, r)
			polls.Go(func() { r.poll(t.Context()) })
		}
		polls.Wait()
		if keys := listed(t, store); len(keys) != 1 || store.writes() != 1 {
			t.Fatalf("%d keys, written %d times", len(keys), store.writes())
		}
		if all[0].sealed() != all[1].sealed() || all[1].sealed() != all[2].sealed() {
			t.Fatal("not the same key everywhere")
		}
	}
}

func TestNobodySharesNothingIsStored(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		r := &replica{tickets: newTickets(store, zap.NewNop())}
		r.start(t)
		time.Sleep(time.Hour)
		if store.calls() != 0 {
			t.Errorf("%d calls to the storage", store.calls())
		}
		r.tls = r.listener(cert, "smtp", "policy") // by a reload
		synctest.Wait()
		if len(listed(t, store)) != 1 {
			t.Error("a first listener did not wake it")
		}
	})
}

// Every reload makes new configurations; the old ones must not pile up.
func TestConfigurationsOutOfUseAreForgotten(t *testing.T) {
	cert := newPKI(t).certificate(spec{names: []string{"mail.example.org"}})
	r := newReplica(t, cert, newMemory())
	for range 100 {
		r.listener(cert, "smtp", "policy")
	}
	for range 10 {
		runtime.GC()
	}
	r.poll(t.Context())
	if n := len(r.attached); n != 1 {
		t.Errorf("%d configurations are kept", n)
	}
	if !resumes(t, tls.VersionTLS13, r.tls, r.listener(cert, "smtp", "policy")) { // r.tls is still in use
		t.Error("the one in use was forgotten, too")
	}
}

func TestTicketKeysAreNowhereToBeRead(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		r := newReplica(t, cert, store)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { r.run(ctx) })
		time.Sleep(2*ticketRotation + time.Hour)
		store.fail(errors.New("away"))
		time.Sleep(8 * ticketRotation) // with a key of its own
		store.fail(nil)
		time.Sleep(time.Hour)
		cancel()
		done.Wait() // fmt looks at everything without a lock

		var said strings.Builder
		encoder := zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig())
		for _, entry := range r.logs.All() {
			line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
			must(t, err)
			said.Write(line.Bytes())
		}
		keys := r.inUse()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			for _, value := range []any{r.tickets, keys, keys[0], &keys[0], errTicketList} {
				fmt.Fprintf(&said, verb+"\n", value)
			}
		}
		reflected, err := json.Marshal(keys)
		must(t, err)
		said.Write(reflected)
		if r.logs.Len() < 4 || len(keys) < 2 || len(r.own) == 0 {
			t.Fatalf("%d lines, %d keys, %d own: nothing to find", r.logs.Len(), len(keys), len(r.own))
		}
		for _, k := range keys {
			secret := k.secret()
			octets := strings.Trim(fmt.Sprint(secret[:4]), "[]")
			commas := strings.ReplaceAll(octets, " ", ", ")
			for _, form := range []string{
				string(secret[:4]), hex.EncodeToString(secret[:4]), base64.StdEncoding.EncodeToString(secret[:6]), octets, commas,
				strings.Trim(fmt.Sprintf("%#v", secret[:4]), "[]byte{}"),
			} {
				if at := strings.Index(said.String(), form); at >= 0 {
					t.Errorf("a key can be read: %q in …%s", form, said.String()[max(at-300, 0):at+len(form)])
				}
			}
		}
	})
}

// A clock that jumps, at one replica of two, and stays where it is.
func TestClockJumpFailsNoResumption(t *testing.T) {
	for _, jump := range []time.Duration{-30 * time.Hour, -time.Hour, time.Hour, 30 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, cert *tls.Certificate) {
				store := newMemory()
				right, wrong := newReplica(t, cert, store), newReplica(t, cert, store)
				var off atomic.Int64
				wrong.now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
				right.start(t)
				wrong.start(t)
				time.Sleep(3 * time.Hour)
				old := newVisitor(t, tls.VersionTLS13)
				old.visit(wrong.tls)
				off.Store(int64(jump))
				for range 80 { // four minutes: more than any announcement
					if !resumes(t, tls.VersionTLS13, right.tls, wrong.tls) || !resumes(t, tls.VersionTLS13, wrong.tls, right.tls) {
						t.Fatal("not resumed at the other replica")
					}
					time.Sleep(3 * time.Second)
				}
				if !old.visit(right.tls) {
					t.Error("a ticket from before the jump is lost")
				}
				if n := len(listed(t, store)); n > 2 {
					t.Errorf("%d keys", n)
				}
			})
		})
	}
}
