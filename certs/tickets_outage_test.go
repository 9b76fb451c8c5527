package certs

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"
)

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
		if r.opens(own) || r.owned() > maxTicketKeys {
			t.Errorf("its own key does not die; %d of them", r.owned())
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
