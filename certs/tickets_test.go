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
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A replica is one process as far as tickets go.
type replica struct {
	*tickets
	tls  *tls.Config // of its listener "smtp"
	logs *observer.ObservedLogs
}

func newReplica(t testing.TB, cert *tls.Certificate, s certmagic.Storage) *replica {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	r := &replica{tickets: newTickets(s, zap.New(core)), logs: logs}
	r.tls = r.listener(cert, "smtp", "policy")
	return r
}

func (r *replica) listener(cert *tls.Certificate, name, policy string) *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	r.attach(name, policy, c)
	return c
}

// start runs the replica until the test ends.
func (r *replica) start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

// A visitor is a client that has tickets of one replica.
type visitor struct {
	t      testing.TB
	config *tls.Config
}

func newVisitor(t testing.TB, version uint16) *visitor {
	return &visitor{t, &tls.Config{
		InsecureSkipVerify: true, ServerName: "mail.example.org", // whose session it resumes
		MinVersion: version, MaxVersion: version,
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}}
}

// visit shakes hands with server over a pipe, and reports whether that resumed.
func (v *visitor) visit(server *tls.Config) bool {
	v.t.Helper()
	near, far := newPipe()
	var done sync.WaitGroup
	done.Go(func() { echo(tls.Server(far, server)) })
	defer done.Wait()
	defer near.Close()
	client := tls.Client(near, v.config)
	if _, err := client.Write([]byte("x")); err != nil {
		v.t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil { // and the ticket of TLS 1.3
		v.t.Fatal(err)
	}
	return client.ConnectionState().DidResume
}

// resumes gets a new ticket of one and goes to other with it.
func resumes(t testing.TB, version uint16, one, other *tls.Config) bool {
	t.Helper()
	v := newVisitor(t, version)
	if v.visit(one) {
		t.Fatal("resumed without a ticket")
	}
	return v.visit(other)
}

func forVersions(t *testing.T, do func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { do(t, version) })
	}
}

// inBubble runs do under a fake clock, with a certificate of that time.
func inBubble(t *testing.T, do func(t *testing.T, cert *tls.Certificate)) {
	synctest.Test(t, func(t *testing.T) {
		do(t, newPKI(t).certificate(spec{names: []string{"mail.example.org"}, to: 900 * day}))
	})
}

func listed(t testing.TB, s certmagic.Storage) []ticketKey {
	t.Helper()
	data, err := s.Load(t.Context(), ticketsKey)
	must(t, err)
	keys, err := decodeTicketKeys(data)
	must(t, err)
	return keys
}

// sealed returns the id of the key that seals now.
func (r *replica) sealed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inUse()[0].id
}

func (r *replica) opens(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.inUse(), func(k ticketKey) bool { return k.id == id })
}

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

func TestStorageAwayAtStartAndBack(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		inBubble(t, func(t *testing.T, cert *tls.Certificate) {
			store := newMemory()
			store.fail(errors.New("connection refused"))
			one, other := newReplica(t, cert, store), newReplica(t, cert, store)
			one.start(t)
			other.start(t)
			time.Sleep(3 * ticketPoll)
			if !resumes(t, version, one.tls, one.tls) || resumes(t, version, one.tls, other.tls) {
				t.Error("without the storage: each must open its own tickets, and only those")
			}
			v := newVisitor(t, version)
			v.visit(one.tls)
			store.fail(nil)
			time.Sleep(ticketPoll + time.Second)
			if !resumes(t, version, one.tls, other.tls) {
				t.Error("not resumed when the storage was back")
			}
			if !v.visit(one.tls) {
				t.Error("a ticket from before is lost")
			}
			wantLogs(t, one.logs, "no keys from the storage yet", "the storage is back")
		})
	})
}

// Caddy's rotation ends for good with one error.
func TestRotationSurvivesStorageErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		one, other := newReplica(t, cert, store), newReplica(t, cert, store)
		one.start(t)
		other.start(t)
		time.Sleep(time.Hour)
		first := one.sealed()
		store.fail(errors.New("no space left on device"))
		v := newVisitor(t, tls.VersionTLS13)
		v.visit(one.tls)
		time.Sleep(3 * ticketRotation)
		if one.sealed() != first || !v.visit(other.tls) {
			t.Error("the keys in use did not stay")
		}
		store.fail(nil)
		time.Sleep(ticketPoll + ticketAnnounce + 2*time.Second)
		if len(listed(t, store)) != 2 || one.sealed() == first || one.sealed() != other.sealed() {
			t.Errorf("no rotation after the outage: %d keys", len(listed(t, store)))
		}
		if !v.visit(one.tls) {
			t.Error("the old key opens no more")
		}
		time.Sleep(ticketRotation)
		if len(listed(t, store)) != 3 {
			t.Error("no rotation a day later")
		}
		wantLogs(t, other.logs, "the storage fails", "the storage is back")
	})
}

// An outage longer than a key's life: the key dies all the same.
func TestKeysDieDuringAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		r := newReplica(t, cert, store)
		r.start(t)
		time.Sleep(time.Minute)
		first := r.sealed()
		store.fail(errors.New("away"))
		time.Sleep(ticketLifetime - 2*time.Minute)
		if r.sealed() != first {
			t.Error("another key in use")
		}
		v := newVisitor(t, tls.VersionTLS13)
		v.visit(r.tls)
		time.Sleep(3 * time.Minute)
		if r.opens(first) || v.visit(r.tls) {
			t.Error("opens with a dead key")
		}
		if !resumes(t, tls.VersionTLS13, r.tls, r.tls) {
			t.Error("no key of its own instead")
		}
		own := r.sealed()
		time.Sleep(ticketRotation + ticketPoll)
		if r.sealed() == own || !r.opens(own) {
			t.Error("its own key is not rotated")
		}
		time.Sleep(2 * ticketLifetime)
		if r.opens(own) || len(r.own) > maxTicketKeys {
			t.Errorf("its own key does not die; %d of them", len(r.own))
		}
	})
}

func TestSilentStorageEndsAPollInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		store.silence(true)
		r := newReplica(t, cert, store)
		r.start(t)
		time.Sleep(ticketTimeout + time.Second)
		wantLogs(t, r.logs, "no keys from the storage yet")
		if !resumes(t, tls.VersionTLS13, r.tls, r.tls) {
			t.Error("no key of its own")
		}
		store.silence(false)
		time.Sleep(ticketPoll)
		wantLogs(t, r.logs, "no keys from the storage yet", "the storage is back")
	})
}

// A holder of the lock that stands still keeps nobody from using the keys there are.
func TestLockedOutKeepsTheKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		r := newReplica(t, cert, store)
		r.start(t)
		time.Sleep(ticketRotation - time.Minute)
		first := r.sealed()
		must(t, store.Lock(t.Context(), ticketsLock))
		time.Sleep(time.Hour)
		if r.sealed() != first || len(listed(t, store)) != 1 {
			t.Error("made a key without the lock")
		}
		late := newReplica(t, cert, store)
		late.start(t)
		time.Sleep(ticketPoll)
		if late.sealed() != first {
			t.Error("a replica that starts now does not use what is there")
		}
		must(t, store.Unlock(t.Context(), ticketsLock))
		time.Sleep(2 * ticketPoll)
		if len(listed(t, store)) != 2 {
			t.Error("no key when the lock was free")
		}
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

func TestDamagedTicketKeysAreReportedAndLeftAlone(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString(slices.Repeat([]byte("s"), 32))
	entry := func(change func(map[string]any)) string {
		one := map[string]any{"id": "a", "secret": secret, "made": time.Now(), "from": time.Now().Add(time.Minute)}
		change(one)
		text, err := json.Marshal([]any{one})
		must(t, err)
		return string(text)
	}
	cert := newPKI(t).certificate(spec{names: []string{"mail.example.org"}})
	for name, text := range map[string]string{
		"nothing":         "",
		"cut":             entry(func(map[string]any) {})[:40],
		"no list":         `{"secret": "` + secret + `"}`,
		"short secret":    entry(func(k map[string]any) { k["secret"] = secret[:20] }),
		"long secret":     entry(func(k map[string]any) { k["secret"] = secret + secret }),
		"no secret":       entry(func(k map[string]any) { delete(k, "secret") }),
		"secret as text":  entry(func(k map[string]any) { k["made"] = secret }),
		"no id":           entry(func(k map[string]any) { k["id"] = "" }),
		"no time":         entry(func(k map[string]any) { delete(k, "made") }),
		"used unborn":     entry(func(k map[string]any) { k["from"] = time.Now().Add(-time.Hour) }),
		"too many":        "[" + strings.Repeat(strings.Trim(entry(func(map[string]any) {}), "[]")+",", 7) + strings.Trim(entry(func(map[string]any) {}), "[]") + "]",
		"without an end":  "[" + strings.Repeat(" ", maxTicketList) + "]",
		"something after": entry(func(map[string]any) {}) + "x",
	} {
		store := newMemory()
		must(t, store.Store(t.Context(), ticketsKey, []byte(text)))
		r := newReplica(t, cert, store)
		r.poll(t.Context())
		r.poll(t.Context())
		if left, err := store.Load(t.Context(), ticketsKey); err != nil || string(left) != text {
			t.Errorf("%s: now %q, %v", name, left, err)
		}
		wantLogs(t, r.logs, "no keys from the storage yet")
		if said := fmt.Sprint(r.logs.All()); !strings.Contains(said, "delete it") || strings.Contains(said, secret[:8]) {
			t.Errorf("%s: %s", name, said)
		}
		if !resumes(t, tls.VersionTLS13, r.tls, r.tls) {
			t.Errorf("%s: no key of its own", name)
		}
	}
	good := newMemory()
	must(t, good.Store(t.Context(), ticketsKey, []byte(entry(func(map[string]any) {}))))
	if r := newReplica(t, cert, good); r.logs.Len() > 0 {
		t.Error(r.logs.All())
	} else if r.poll(t.Context()); r.sealed() != "a" {
		t.Error("the entry that all were made of is not good itself")
	}
}

func TestDeletingTheListEndsItsTickets(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		r := newReplica(t, cert, store)
		r.start(t)
		time.Sleep(time.Minute)
		v := newVisitor(t, tls.VersionTLS13)
		v.visit(r.tls)
		must(t, store.Delete(t.Context(), ticketsKey))
		time.Sleep(ticketPoll + time.Second)
		if v.visit(r.tls) {
			t.Error("resumed by a key that was deleted")
		}
		if !resumes(t, tls.VersionTLS13, r.tls, r.tls) {
			t.Error("no new key")
		}
	})
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

// wantLogs wants these messages, in this order, once each, beside the news of
// new keys.
func wantLogs(t testing.TB, logs *observer.ObservedLogs, wants ...string) {
	t.Helper()
	var said []string
	for _, entry := range logs.All() {
		if !strings.Contains(entry.Message, "made a new key") {
			said = append(said, entry.Message)
		}
	}
	good := len(said) == len(wants)
	for i := range min(len(said), len(wants)) {
		good = good && strings.Contains(said[i], wants[i])
	}
	if !good {
		t.Errorf("logged %q, want %q", said, wants)
	}
}
