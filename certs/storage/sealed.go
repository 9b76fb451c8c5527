package storage

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"
)

// Encryption at rest, over any medium. A sealed value is
//
//	"smtpseal" version(1) nonce(12) AES-256-GCM ciphertext with tag(16)
//
// The key is HKDF-SHA256 of the encryption key; the associated data are the
// octets before the nonce, and the value's key in the store, so that who can
// write to the store cannot move a value to another name. The nonce is random: good for
// 2^32 values under one key, which is centuries of renewals. Locks are not
// encrypted: there is nothing in them.
//
// What it does not do: names, sizes and times stay visible; an older value can
// be put back in its own place; a value can be deleted.
//
// With a key set, a value that is not sealed is refused, wherever it came from.
// To accept it, even once, even only until it is written next, would give up
// what encryption is for, since who can write to the store could then plant one:
// a private key, which is reused at the next renewal, so that the CA certifies a
// key that the attacker has; a challenge token, which lets the attacker have a
// certificate of its own; an account, with its authorizations; ticket keys; the
// internal CA's root. A mark in the store "all is sealed now" is no help, since
// it can be deleted. So an existing store is sealed by a deliberate act, Seal,
// while only the operator writes to it.
const (
	magic    = "smtpseal\x01"
	nonceLen = 12
	overhead = len(magic) + nonceLen + 16
)

// hkdfInfo separates this key from others made of the same text.
const hkdfInfo = "smtpseal storage values v1"

var (
	errSealed = errors.New("the value is encrypted: set storage.encryption_key to the key that the other replicas have")
	errPlain  = errors.New("the value is not encrypted, so anybody might have written it, and it is not used: if the storage was in use before storage.encryption_key was set, encrypt it once with: smtpseal certs encrypt; or begin with an empty one; else find out who wrote it")
	errBroken = errors.New("the value cannot be decrypted: it was written with another storage.encryption_key, under another name, or by a later version, or is damaged: restore the key or a backup, or delete the value")
)

// encryption is m as the configuration wants it: sealed, or refusing what is.
func encryption(m medium, secret string) (medium, error) {
	if secret == "" {
		return plain{m}, nil
	}
	aead, err := newAEAD(secret)
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return sealed{m, aead}, nil
}

// newAEAD never says what it was given. 64 hex digits are 32 octets; anything
// else is taken as it is, and whoever types it answers for its randomness: HKDF
// is no password hash.
func newAEAD(secret string) (cipher.AEAD, error) {
	material := []byte(secret)
	if decoded, err := hex.DecodeString(secret); err == nil && len(decoded) == 32 {
		material = decoded
	}
	if len(material) < 32 {
		return nil, errors.New("storage.encryption_key: too short: 64 hex digits, as by `openssl rand -hex 32`, or a text of at least 32 octets")
	}
	key, err := hkdf.Key(sha256.New, material, nil, hkdfInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("storage.encryption_key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("storage.encryption_key: %w", err)
	}
	return cipher.NewGCM(block)
}

// A plain medium writes what it is given.
type plain struct{ medium }

func (m plain) store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValue {
		return errTooLong
	}
	return m.medium.store(ctx, key, value)
}

func (m plain) load(ctx context.Context, key string) ([]byte, error) {
	value, err := m.medium.load(ctx, key)
	if err == nil && isSealed(value) {
		return nil, errSealed
	}
	return value, err
}

// A sealed medium writes nothing in clear, and reads nothing that is.
type sealed struct {
	medium
	aead cipher.AEAD
}

func (m sealed) store(ctx context.Context, key string, value []byte) error {
	if len(value) > maxValue-overhead {
		return errTooLong
	}
	box := make([]byte, len(magic)+nonceLen, len(value)+overhead)
	copy(box, magic)
	rand.Read(box[len(magic):])
	return m.medium.store(ctx, key, m.aead.Seal(box, box[len(magic):], value, bound(key)))
}

func (m sealed) load(ctx context.Context, key string) ([]byte, error) {
	box, err := m.medium.load(ctx, key)
	if err != nil {
		return nil, err
	}
	return m.open(key, box)
}

func (m sealed) open(key string, box []byte) ([]byte, error) {
	if !isSealed(box) {
		return nil, errPlain
	}
	if len(box) < overhead || string(box[:len(magic)]) != magic {
		return nil, errBroken
	}
	nonce, text := box[len(magic):len(magic)+nonceLen], box[len(magic)+nonceLen:]
	value, err := m.aead.Open([]byte{}, nonce, text, bound(key))
	if err != nil {
		return nil, errBroken
	}
	return value, nil
}

// stat has the size of what load would return.
func (m sealed) stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	described, err := m.medium.stat(ctx, key)
	if described.IsTerminal {
		described.Size = max(0, described.Size-int64(overhead))
	}
	return described, err
}

// bound is what a value is authenticated with besides itself.
func bound(key string) []byte { return []byte(magic + key) }

// isSealed goes by the magic without its version, so that a value of a later
// version is not taken for a plain one.
func isSealed(value []byte) bool {
	return bytes.HasPrefix(value, []byte(magic[:len(magic)-1]))
}

// Seal encrypts all plain values of a store that was used without an encryption
// key, and returns how many. It is for the time between: every process that
// uses the store is stopped, o has the key that they get next, and nobody else
// can have written to the store; what is in it is believed. Sealed values are
// checked and left alone, so it may be run again after an error.
func Seal(ctx context.Context, o Options) (int, error) {
	raw, err := openMedium(ctx, &o)
	if err != nil {
		return 0, err
	}
	if o.EncryptionKey == "" {
		return 0, errors.Join(errors.New("seal storage: no encryption key: set storage.encryption_key"), raw.close())
	}
	target, err := encryption(raw, o.EncryptionKey)
	if err != nil {
		return 0, err // raw is closed
	}
	from := newStore(raw, o) // no plain{}: it has to see what is sealed
	to := newStore(target, o)
	count, err := sealAll(ctx, from, to)
	to.end() // from has the same connections
	return count, errors.Join(err, from.Close())
}

func sealAll(ctx context.Context, from, to *store) (int, error) {
	keys, err := from.List(ctx, "", true)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, key := range keys {
		done, err := sealOne(ctx, from, to, key)
		if err != nil {
			return count, err
		}
		if done {
			count++
		}
	}
	return count, nil
}

func sealOne(ctx context.Context, from, to *store, key string) (bool, error) {
	described, err := from.Stat(ctx, key)
	if err != nil || !described.IsTerminal {
		return false, err
	}
	value, err := from.Load(ctx, key)
	if err != nil {
		return false, err
	}
	if isSealed(value) {
		_, err := to.Load(ctx, key)
		return false, err
	}
	return true, to.Store(ctx, key, value)
}

// String says so, since it is shown where somebody wonders.
func (m sealed) String() string { return strings.TrimSpace(m.medium.String() + ", encrypted") }
