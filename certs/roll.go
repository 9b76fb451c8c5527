package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// A Roll changes the key of a certificate without a moment in which the TLSA
// records of some cache fit neither key (RFC 7671 section 8): the next key is
// made (Begin), its record stands beside the current one (Publish, or by hand),
// every authoritative server is seen to have it for two TTLs (Check), the
// certificate is renewed with it (Switch), the old record goes (Publish).
//
// All of it lies in the storage, each step in one write that counts, so that a
// crash between any two leaves a state from which the next call goes on. Calls
// of several processes wait for each other. What holds at each moment, given
// that nobody removes records that State does not name: the key in use has its
// record in DNS, and in every cache that has any.
type Roll struct {
	Name    string   // of the certificate; with KeyType it says which
	KeyType string   // p256, p384, rsa2048, rsa4096
	Hosts   []string // that have the records; nil: Name. A wildcard certificate's MX hosts. See Resume
	Ports   []int    // nil: 25
	Storage certmagic.Storage
	Zone    Zone        // nil: records can be printed, but nobody can see them, so Switch refuses
	Log     *zap.Logger // names the certificate already; nil: silent

	// Current is the newest certificate in the storage; fs.ErrNotExist: there is none.
	Current func(context.Context) (*x509.Certificate, error)
}

// A Zone is where the records of a name are, be its servers whose they may.
type Zone interface {
	// TLSA asks every address of every authoritative server for the records at
	// a name. The keys are servers as people know them. The TTL is the largest
	// of all. An error means that nothing was learned; what a single server did
	// not say is in its answer.
	TLSA(ctx context.Context, fqdn string) (servers map[string]TLSAAnswer, ttl time.Duration, err error)

	// Publish adds and removes records of a name, in this order, and leaves
	// others alone: those of another certificate, or of a CA. errors.ErrUnsupported:
	// there is nobody who could.
	Publish(ctx context.Context, fqdn string, add, remove []string, ttl time.Duration) error
}

// A TLSAAnswer is what one server says: records as TLSAData spells them, or why
// it said nothing. It is an alias, so that a Zone needs no import of ours.
type TLSAAnswer = struct {
	Records []string
	Err     error
}

const (
	// rollLock bounds how long one operator waits for another, who may be in
	// the middle of an issuance.
	rollLock = 2 * time.Minute

	// rollLook bounds one look at all servers.
	rollLook = time.Minute

	// rollFinish bounds what is written after an issuance: it is done also
	// when the operator has interrupted us.
	rollFinish = time.Minute

	// rollSpread is how long the old record stays after the switch: replicas
	// take the new certificate within half of it.
	rollSpread = time.Minute

	// rollTTL is the longest TTL that counts. Resolvers remember nothing for
	// longer (RFC 8767 section 4), and a TTL of years would be a typing error.
	rollTTL = 7 * day
)

func (r *Roll) log() *zap.Logger {
	if r.Log == nil {
		return zap.NewNop()
	}
	return r.Log
}

// names are those of the records.
func (r *Roll) names() ([]string, error) {
	hosts, ports := r.Hosts, r.Ports
	if len(hosts) == 0 {
		hosts = []string{r.Name}
	}
	if len(ports) == 0 {
		ports = []int{25}
	}
	names := tlsaNames(hosts, ports)
	if len(names) == 0 {
		return nil, fmt.Errorf("roll %s: no name that can have a TLSA record: name the MX hosts", r.Name)
	}
	return names, nil
}

// lock lets one at a time change the state. The caller calls unlock.
func (r *Roll) lock(ctx context.Context) (unlock func(), err error) {
	if _, err := r.names(); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, rollLock)
	defer cancel()
	name := "roll_" + certmagic.StorageKeys.Safe(r.Name) + "_" + r.KeyType
	if err := r.Storage.Lock(limited, name); err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("waited %v: somebody else is at it: %w", rollLock, err)
		}
		return nil, fmt.Errorf("roll %s: lock: %w", r.Name, err)
	}
	return func() {
		if err := r.Storage.Unlock(context.WithoutCancel(ctx), name); err != nil {
			r.log().Warn("key roll-over not unlocked: the next one waits until the lock lapses", zap.Error(err))
		}
	}, nil
}

// State says how far the roll-over is. It asks the storage only.
func (r *Roll) State(ctx context.Context) (RollState, error) {
	if _, err := r.names(); err != nil {
		return RollState{}, err
	}
	rec, err := r.read(ctx)
	if err != nil {
		return RollState{}, err
	}
	return r.state(rec), nil
}

// Begin makes the next key, of the same type, or finds the one that an earlier
// call has made. The state that it returns says what to publish. It looks at
// the zone first: what caches hold now they may hold for the TTL of now, even
// if the next records come with a smaller one.
func (r *Roll) Begin(ctx context.Context) (RollState, error) {
	before, err := r.Look(ctx)
	if err != nil && r.Zone != nil {
		return RollState{}, fmt.Errorf("begin: the zone must be seen as it is before the change: %w", err)
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return RollState{}, err
	}
	defer unlock()
	rec, err := r.read(ctx)
	if err != nil {
		return RollState{}, err
	}
	if rec.phase() != RollStaged {
		if rec, err = r.stage(ctx, rec); err != nil {
			return RollState{}, fmt.Errorf("roll %s: begin: %w", r.Name, err)
		}
	}
	if r.Zone != nil {
		rec.observe(before, r.log())
	}
	if err := r.write(ctx, rec); err != nil {
		return RollState{}, err
	}
	return r.state(rec), nil
}

// stage makes the key and then what is known of it. A key without that, left
// by a crash in between, is taken: nobody has seen it. But not the one that
// is in use already.
func (r *Roll) stage(ctx context.Context, last rollRecord) (rollRecord, error) {
	if last.current == "" {
		return last, errors.New("there is no certificate yet: get one first")
	}
	next := rollRecord{current: last.current, key: last.key, Hosts: r.Hosts, Ports: r.Ports, Started: time.Now()}
	if next.key != nil {
		next.Next = keyTLSA(next.key.Public())
	}
	if next.key == nil || next.Next == last.current || last.Switched != (time.Time{}) && next.Next == last.Next {
		kind, err := keyTypeOf(r.KeyType)
		if err != nil {
			return last, err
		}
		if next.key, err = r.makeKey(ctx, kind); err != nil {
			return last, err
		}
		next.Next = keyTLSA(next.key.Public())
	}
	// A record of the roll-over before may still be there.
	next.Old = last.Old
	next.outdate(last.current)
	return next, nil
}

// Publish writes what State says: before the switch the next record beside the
// current one, after it no old one. With nothing under way it writes the
// current one.
func (r *Roll) Publish(ctx context.Context, ttl time.Duration) (RollState, error) {
	if r.Zone == nil {
		return RollState{}, errors.ErrUnsupported
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return RollState{}, err
	}
	defer unlock()
	rec, err := r.read(ctx)
	if err != nil {
		return RollState{}, err
	}
	if rec.phase() == RollSwitched && rec.Switched.IsZero() {
		if err := r.finish(ctx, &rec); err != nil {
			return RollState{}, err
		}
	}
	if left := time.Until(rec.Switched.Add(rollSpread)); rec.phase() == RollSwitched && left > 0 {
		return r.state(rec), fmt.Errorf("publish: replicas may still show the old key: wait another %v", left.Round(time.Second))
	}
	names, _ := r.names() // lock has checked them
	wanted, gone := rec.wanted(), rec.gone()
	for _, name := range names {
		if err := r.Zone.Publish(ctx, name, wanted, gone, ttl); err != nil {
			return r.state(rec), fmt.Errorf("publish %s: %w", name, err)
		}
	}
	if rec.phase() != RollSwitched {
		return r.state(rec), nil
	}
	if err := r.forget(ctx); err != nil {
		return r.state(rec), err
	}
	return r.state(rollRecord{current: rec.current}), nil
}

// Abandon forgets the next key for good and returns the records of it that may
// be in DNS. After the switch there is nothing to abandon.
func (r *Roll) Abandon(ctx context.Context) (remove []TLSARecord, err error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec, err := r.read(ctx)
	switch {
	case err != nil && !errors.Is(err, errRollDamaged):
		return nil, err
	case err == nil && rec.phase() == RollSwitched:
		return nil, fmt.Errorf("roll %s: abandon: the certificate has the next key already: begin anew for another one", r.Name)
	}
	names, _ := r.names()
	if rec.Next != "" {
		remove = tlsaRecords(names, rec.Next)
	}
	return remove, r.forget(ctx)
}
