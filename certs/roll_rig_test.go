package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const rolledName = "_25._tcp.mail.example.org."

// A rollMemory is a storage whose process can be killed at any of its calls.
type rollMemory struct {
	mu     sync.Mutex
	values map[string][]byte
	held   map[string]chan struct{}
}

func newRollMemory() *rollMemory {
	return &rollMemory{values: map[string][]byte{}, held: map[string]chan struct{}{}}
}

// A rollProcess is one that uses the memory. After lives calls that change
// something it is dead; with late the last of them still has its effect.
type rollProcess struct {
	certmagic.Storage
	*rollMemory
	lives int // negative: immortal
	late  bool
	locks []string
}

var errKilled = errors.New("killed")

func (p *rollProcess) dies() (dead, effect bool) {
	if p.lives < 0 {
		return false, true
	}
	if p.lives == 0 {
		return true, false
	}
	p.lives--
	return p.lives == 0, p.lives > 0 || p.late
}

func (p *rollProcess) Load(_ context.Context, key string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lives == 0 {
		return nil, errKilled
	}
	if v, ok := p.values[key]; ok {
		return v, nil
	}
	return nil, fs.ErrNotExist
}

func (p *rollProcess) change(effect func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	dead, happens := p.dies()
	if happens {
		effect()
	}
	if dead {
		return errKilled
	}
	return nil
}

func (p *rollProcess) Store(_ context.Context, key string, value []byte) error {
	return p.change(func() { p.values[key] = slices.Clone(value) })
}

func (p *rollProcess) Delete(_ context.Context, key string) error {
	return p.change(func() { delete(p.values, key) })
}

func (p *rollProcess) Lock(ctx context.Context, name string) error {
	for {
		p.mu.Lock()
		held := p.held[name]
		if held == nil {
			p.held[name] = make(chan struct{})
			p.locks = append(p.locks, name)
		}
		p.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *rollProcess) Unlock(_ context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if held := p.held[name]; held != nil {
		close(held)
		delete(p.held, name)
	}
	return nil
}

// A fakeZone has servers whose copies may lag, and knows what caches may hold.
type fakeZone struct {
	mu      sync.Mutex
	servers map[string]*serverCopy
	ttl     time.Duration
	away    map[string]bool
	down    error
}

// serverCopy is one server's copy of the records, and what it was before.
type serverCopy struct {
	now  []string
	past []pastCopy
}

type pastCopy struct {
	records []string
	end     time.Time // when the last cache has forgotten it
}

func (c *serverCopy) set(records []string, ttl time.Duration) {
	c.past = append(c.past, pastCopy{c.now, time.Now().Add(ttl)})
	c.now = records
}

func (z *fakeZone) TLSA(_ context.Context, fqdn string) (map[string]TLSAAnswer, time.Duration, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.down != nil || fqdn != rolledName {
		return nil, 0, errors.Join(z.down, errors.New("look-up of "+fqdn))
	}
	all := map[string]TLSAAnswer{}
	for name, c := range z.servers {
		if z.away[name] {
			all[name] = TLSAAnswer{Err: errors.New("no answer")}
		} else {
			all[name] = TLSAAnswer{Records: slices.Clone(c.now)}
		}
	}
	return all, z.ttl, nil
}

func (z *fakeZone) Publish(_ context.Context, fqdn string, add, remove []string, _ time.Duration) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, c := range z.servers {
		records := slices.Clone(c.now)
		for _, a := range add {
			if !slices.Contains(records, a) {
				records = append(records, a)
			}
		}
		c.set(slices.DeleteFunc(records, func(r string) bool { return slices.Contains(remove, r) }), z.ttl)
	}
	return nil
}

// A rollRig has a certificate in use, its records in DNS, and the memory of
// all processes.
type rollRig struct {
	t      *testing.T
	ca     *pki
	memory *rollMemory
	zone   *fakeZone
	mu     sync.Mutex
	key    crypto.Signer // in use
	leaf   *x509.Certificate
	orders int
	logs   *observer.ObservedLogs
	log    *zap.Logger
}

func newRollRig(t *testing.T) *rollRig {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	rig := &rollRig{t: t, ca: newPKI(t), memory: newRollMemory(), logs: logs, log: zap.New(core),
		zone: &fakeZone{ttl: time.Hour, servers: map[string]*serverCopy{"ns1": {}, "ns2": {}}, away: map[string]bool{}}}
	must(t, rig.issue(t.Context(), newKey(t, false)))
	rig.orders = 0
	for _, c := range rig.zone.servers {
		c.now = []string{rig.live()}
	}
	return rig
}

func (rig *rollRig) live() string {
	rig.mu.Lock()
	defer rig.mu.Unlock()
	return keyTLSA(rig.leaf.PublicKey)
}

func (rig *rollRig) issue(_ context.Context, key crypto.Signer) error {
	certPEM, _ := rig.ca.issue(spec{names: []string{"mail.example.org"}, key: key})
	block, _ := pem.Decode(certPEM)
	leaf, err := x509.ParseCertificate(block.Bytes)
	rig.mu.Lock()
	defer rig.mu.Unlock()
	rig.leaf, rig.key = leaf, key
	rig.orders++
	return err
}

func (rig *rollRig) roll(lives int, late bool) (*Roll, *rollProcess) {
	p := &rollProcess{rollMemory: rig.memory, lives: lives, late: late}
	return &Roll{Name: "mail.example.org", KeyType: "p256", Storage: p, Zone: rig.zone, Log: rig.log,
		Current: func(context.Context) (*x509.Certificate, error) {
			rig.mu.Lock()
			defer rig.mu.Unlock()
			return rig.leaf, nil
		}}, p
}

// intact: every copy of the records that a server or a cache may have now, and
// that has any, has the key in use.
func (rig *rollRig) intact(when string) {
	rig.t.Helper()
	live, now := rig.live(), time.Now()
	rig.zone.mu.Lock()
	defer rig.zone.mu.Unlock()
	for name, c := range rig.zone.servers {
		for _, held := range append(slices.Clone(c.past), pastCopy{c.now, now.Add(1)}) {
			if held.end.After(now) && len(held.records) > 0 && !slices.Contains(held.records, live) {
				rig.t.Fatalf("%s: a cache of %s holds %q, in use is %s", when, name, held.records, live)
			}
		}
	}
}

// drive is what an operator does until the key is new and the zone is clean.
func (rig *rollRig) drive(r *Roll, first string) {
	rig.t.Helper()
	for range 200 {
		rig.intact("on the way")
		state, err := r.State(rig.t.Context())
		must(rig.t, err)
		switch {
		case state.Phase == RollNone && rig.live() != first:
			return
		case state.Phase == RollNone:
			_, err = r.Begin(rig.t.Context())
		case state.Phase == RollStaged && state.MaySwitch(time.Now()) == nil:
			_, err = r.Switch(rig.t.Context(), rig.issue)
		case state.Phase == RollStaged:
			if len(state.Missing) > 0 {
				_, err = r.Publish(rig.t.Context(), time.Hour)
			}
			if err == nil {
				_, err = r.Check(rig.t.Context())
			}
		default:
			if _, err = r.Publish(rig.t.Context(), time.Hour); err != nil && strings.Contains(err.Error(), "replicas") {
				err = nil
			}
		}
		must(rig.t, err)
		time.Sleep(10 * time.Minute)
	}
	rig.t.Fatal("never through")
}
