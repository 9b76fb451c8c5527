package certs

import (
	"cmp"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	ticketRotation = 24 * time.Hour
	ticketLifetime = 7 * 24 * time.Hour // as in crypto/tls, and RFC 8446 section 4.6.1

	// ticketAnnounce lets every replica poll twice before a new key seals, and
	// has a third poll's time for a slow storage and clocks that differ.
	ticketAnnounce = 3 * ticketPoll

	// maxTicketKeys is one for each day of a life. More would be tried, one
	// after the other, on every ticket that nobody here can open.
	maxTicketKeys = 7

	// maxTicketList is ten times what seven keys take: whoever can write to the
	// storage must not make us parse without end.
	maxTicketList = 16 << 10
)

// A ticketKey is what the keys of listeners are derived from.
type ticketKey struct {
	id     string
	secret ticketSecret
	made   time.Time
	from   time.Time // seals from then on, opens before
}

// A ticketSecret is a function, because fmt prints no more than the address of
// one, with any verb and however deep. A Format method would not be called in
// an unexported field, and %s follows a pointer.
type ticketSecret func() [32]byte

func newTicketSecret(octets [32]byte) ticketSecret { return func() [32]byte { return octets } }

// A storedKey is a ticketKey in the storage.
type storedKey struct {
	ID     string    `json:"id"`
	Secret []byte    `json:"secret"` // base64
	Made   time.Time `json:"made"`
	From   time.Time `json:"from"`
}

// errTicketList has no cause: that might quote a secret.
var errTicketList = errors.New(ticketsKey + ": not a list of session-ticket keys: delete it, and new ones are made; running sessions stay")

// decodeTicketKeys is strict. What it refuses is left as it is, since it may be
// good for a newer version of this program.
func decodeTicketKeys(data []byte) ([]ticketKey, error) {
	var stored []storedKey
	if len(data) > maxTicketList || json.Unmarshal(data, &stored) != nil || len(stored) > maxTicketKeys {
		return nil, errTicketList
	}
	var keys []ticketKey
	for _, s := range stored {
		if len(s.Secret) != 32 || s.ID == "" || s.Made.IsZero() || s.From.Before(s.Made) {
			return nil, errTicketList
		}
		keys = append(keys, ticketKey{s.ID, newTicketSecret([32]byte(s.Secret)), s.Made, s.From})
	}
	return keys, nil
}

func encodeTicketKeys(keys []ticketKey) ([]byte, error) {
	var stored []storedKey
	for _, k := range keys {
		secret := k.secret()
		stored = append(stored, storedKey{k.id, secret[:], k.made, k.from})
	}
	return json.Marshal(stored)
}

// age is how far a key's birth is from now. In both directions: a key from the
// future was made, or is looked at, by a clock that is wrong. If it counted as
// new, no other would be made, and it would live too long.
func (k ticketKey) age(now time.Time) time.Duration { return now.Sub(k.made).Abs() }

func aliveTicketKeys(keys []ticketKey, now time.Time) (alive []ticketKey) {
	for _, k := range keys {
		if k.age(now) < ticketLifetime {
			alive = append(alive, k)
		}
	}
	return alive
}

// ticketKeyDue reports whether there is no key of today.
func ticketKeyDue(keys []ticketKey, now time.Time) bool {
	return !slices.ContainsFunc(keys, func(k ticketKey) bool { return k.age(now) < ticketRotation })
}

// addTicketKey puts a new key before the others. What leaves the list is the last
// of it and what is long dead; to drop all that are dead now would let a replica
// whose clock is some days ahead take away the keys that all others use.
func addTicketKey(keys []ticketKey, now time.Time) []ticketKey {
	var id [8]byte
	var secret [32]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	now = now.UTC()
	list := []ticketKey{{hex.EncodeToString(id[:]), newTicketSecret(secret), now, now.Add(ticketAnnounce)}}
	for _, k := range keys {
		if now.Sub(k.made) < 2*ticketLifetime && len(list) < maxTicketKeys {
			list = append(list, k)
		}
	}
	return list
}

// sealFirst puts the key that seals before the others: the newest that all
// replicas know. If none has come to that, it is the last of the list: either the
// only one, or the clock here is wrong, times tell nothing, and that one has been
// known for longest.
func sealFirst(keys []ticketKey, now time.Time) []ticketKey {
	seal := len(keys) - 1
	for i, k := range keys {
		if !k.from.After(now) && (keys[seal].from.After(now) || later(k, keys[seal])) {
			seal = i
		}
	}
	if seal > 0 {
		keys = slices.Concat(keys[seal:seal+1], keys[:seal], keys[seal+1:])
	}
	return keys
}

// later puts keys into the same order at every replica, whoever made them.
func later(a, b ticketKey) bool {
	return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.id, b.id)) > 0
}

// ticketInfo says for whom keys are derived.
func ticketInfo(name, policy string) string {
	return fmt.Sprintf("smtpseal session tickets v1 %q %q", name, policy) // quoted: no two pairs look the same
}

// deriveTicketKeys returns what SetSessionTicketKeys wants.
func deriveTicketKeys(keys []ticketKey, info string) [][32]byte {
	var derived [][32]byte
	for _, k := range keys {
		secret := k.secret()
		key, err := hkdf.Key(sha256.New, secret[:], nil, info, 32)
		if err != nil {
			panic(err) // of a length above 8,160 octets only
		}
		derived = append(derived, [32]byte(key))
	}
	return derived
}
