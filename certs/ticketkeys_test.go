package certs

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// keysOf are keys of these ages, the newest first, each in use from the end of
// its announcement.
func keysOf(now time.Time, ages ...time.Duration) (keys []ticketKey) {
	for _, age := range ages {
		made := now.Add(-age)
		keys = append(keys, ticketKey{fmt.Sprint(age), newTicketSecret([32]byte{}), made, made.Add(ticketAnnounce)})
	}
	return keys
}

func ids(keys []ticketKey) (all []string) {
	for _, k := range keys {
		all = append(all, k.id)
	}
	return all
}

func TestWhenATicketKeyIsDue(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		ages []time.Duration
		want bool
	}{
		{"none", nil, true},
		{"new", []time.Duration{0}, false},
		{"nearly a day old", []time.Duration{day - 1}, false},
		{"a day old", []time.Duration{day}, true},
		{"the clock of another is a little ahead", []time.Duration{-time.Minute, day}, false},
		{"the clock was far ahead: its key must not stop rotation", []time.Duration{-10 * day, 2 * day}, true},
		{"… once only", []time.Duration{-10 * day, time.Hour, 2 * day}, false},
	} {
		if got := ticketKeyDue(keysOf(now, c.ages...), now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestWhichTicketKeysAreAlive(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		age  time.Duration
		want bool
	}{
		{0, true}, {7*day - 1, true}, {7 * day, false}, {8 * day, false},
		{-time.Hour, true}, {-7 * day, false}, {-365 * day, false},
	} {
		if got := len(aliveTicketKeys(keysOf(now, c.age), now)) == 1; got != c.want {
			t.Errorf("made %s ago: %v", c.age, got)
		}
	}
}

// The clock is that of the replica that looks, and may be wrong.
func TestWhichTicketKeySeals(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		ages []time.Duration
		want time.Duration
	}{
		{"the only one, just made", []time.Duration{0}, 0},
		{"the newest", []time.Duration{2 * day, time.Hour, day}, time.Hour},
		{"not one that is being announced", []time.Duration{time.Minute, day, 2 * day}, day},
		{"the newest at the end of its announcement", []time.Duration{ticketAnnounce, day}, ticketAnnounce},
		{"after a jump back by two days, one that all others have", []time.Duration{-2 * day, -day, time.Hour, day}, time.Hour},
		{"after a jump back beyond all, the oldest", []time.Duration{-3 * day, -2 * day, -day}, -day},
		{"… and not the new one that was made then", []time.Duration{0, -30 * time.Hour}, -30 * time.Hour},
	} {
		keys := keysOf(now, c.ages...)
		got := sealFirst(slices.Clone(keys), now)
		if got[0].id != fmt.Sprint(c.want) {
			t.Errorf("%s: sealed by %s", c.name, got[0].id)
		}
		if len(got) != len(keys) {
			t.Errorf("%s: %q of %q", c.name, ids(got), ids(keys))
		}
	}
}

func TestAtMostSevenTicketKeys(t *testing.T) {
	now := time.Now()
	var keys []ticketKey
	for range 20 { // far too fast, as with clocks that jump
		keys = addTicketKey(keys, now)
		now = now.Add(time.Hour)
	}
	if len(keys) != maxTicketKeys || !slices.IsSortedFunc(keys, func(a, b ticketKey) int { return b.made.Compare(a.made) }) {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	data, err := encodeTicketKeys(keys)
	must(t, err)
	read, err := decodeTicketKeys(data)
	must(t, err)
	if len(data)*4 > maxTicketList || !slices.Equal(ids(read), ids(keys)) || read[3].secret() != keys[3].secret() || !read[3].from.Equal(keys[3].from) {
		t.Errorf("%d octets: %q of %q", len(data), ids(read), ids(keys))
	}
	if keys[0].secret() == keys[1].secret() || keys[0].secret() == [32]byte{} {
		t.Error("not random")
	}
}

// A replica whose clock is ten days ahead can take part in nothing, but must
// not keep the others from rotating, nor make them write at every poll.
func TestOneWrongClockDisturbsNobody(t *testing.T) {
	now := time.Now()
	var keys []ticketKey
	made := 0
	for hour := range 5 * 24 {
		at := now.Add(time.Duration(hour) * time.Hour)
		for _, clock := range []time.Time{at, at.Add(10 * day), at.Add(time.Minute)} {
			if ticketKeyDue(keys, clock) {
				keys = addTicketKey(keys, clock)
				made++
			}
		}
		alive := aliveTicketKeys(keys, at)
		if len(alive) == 0 || alive[0].age(at) > day+time.Hour {
			t.Fatalf("hour %d: nothing to seal with: %q", hour, ids(alive))
		}
		oldest := at
		for _, k := range keys {
			if k.made.Before(oldest) {
				oldest = k.made
			}
		}
		if hour > 72 && at.Sub(oldest) < 2*day {
			t.Fatalf("hour %d: nothing opens tickets older than %s", hour, at.Sub(oldest))
		}
	}
	if made > 3*5 {
		t.Errorf("%d keys in five days", made)
	}
}

func TestTicketKeysOfListenersDiffer(t *testing.T) {
	keys := addTicketKey(addTicketKey(nil, time.Now()), time.Now())
	seen := map[[32]byte]bool{keys[0].secret(): true, keys[1].secret(): true}
	for _, who := range [][2]string{{"a", "p"}, {"a", "q"}, {"b", "p"}, {"ap", ""}, {"", "ap"}, {`a" "p`, ""}} {
		derived := deriveTicketKeys(keys, ticketInfo(who[0], who[1]))
		if len(derived) != 2 || seen[derived[0]] || seen[derived[1]] {
			t.Errorf("%q: not its own", who)
		}
		seen[derived[0]], seen[derived[1]] = true, true
	}
}
