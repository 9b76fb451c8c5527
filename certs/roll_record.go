package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

// A RollPhase says how far a roll-over is.
type RollPhase string

const (
	RollNone     RollPhase = "none"
	RollStaged   RollPhase = "staged"   // there is a next key, whose record has to be seen
	RollSwitched RollPhase = "switched" // the certificate has it, the old record may go
)

// A RollState is a roll-over for people to read.
type RollState struct {
	Phase   RollPhase
	Current string // what the record of the key in use says
	Next    string // and that of the next one

	Started  time.Time     // Begin
	Seen     time.Time     // since when every server has the next record, as far as was looked; zero: not all have it
	Checked  time.Time     // when that was last looked at
	Missing  []string      // servers that did not have it then, and what they said
	TTL      time.Duration // the largest that was seen since Begin
	Switched time.Time

	Publish []TLSARecord // what has to be in DNS now
	Remove  []TLSARecord // what should no longer be there
}

// A rollRecord is what the storage has of a roll-over, and beside it what is
// read along: the next key and the record of the one in use.
type rollRecord struct {
	key     crypto.Signer // nil: none
	current string        // empty: no certificate

	Next     string        `json:"next"`
	Old      []string      `json:"old,omitempty"`   // records that may be in DNS and are of no use after the switch
	Hosts    []string      `json:"hosts,omitempty"` // as Roll's, at Begin
	Ports    []int         `json:"ports,omitempty"`
	Started  time.Time     `json:"started"`
	Seen     time.Time     `json:"seen,omitzero"`
	Checked  time.Time     `json:"checked,omitzero"`
	Missing  []string      `json:"missing,omitempty"`
	TTL      time.Duration `json:"ttl_ns"`
	Switched time.Time     `json:"switched,omitzero"`
}

// rollOld bounds the old records that are remembered: an operator who never
// publishes has nothing to remove.
const rollOld = 8

// errRollDamaged is of content that a crash cannot have left.
var errRollDamaged = errors.New("abandon the roll-over and begin again")

func (r *Roll) file(name string) string {
	return "roll/" + certmagic.StorageKeys.Safe(r.Name) + "/" + r.KeyType + "/" + name
}

// read puts together what the steps have left, however far they came: the key
// is written before the record that names it, and deleted after the record
// that no longer needs it.
func (r *Roll) read(ctx context.Context) (rec rollRecord, err error) {
	if err := r.readRecord(ctx, &rec); err != nil {
		return rec, err
	}
	if rec.key, err = r.readKey(ctx); err != nil {
		return rec, err
	}
	cert, err := r.Current(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNoCertificate):
	case err != nil:
		return rec, fmt.Errorf("roll %s: certificate: %w", r.Name, err)
	default:
		if rec.current, err = TLSAData(cert); err != nil {
			return rec, err
		}
	}
	lost := rec.key == nil || keyTLSA(rec.key.Public()) != rec.Next
	if lost && rec.phase() == RollStaged { // a record of another key, or of none, is worth nothing
		rec = rollRecord{key: rec.key, current: rec.current, Old: rec.Old}
	}
	return rec, nil
}

func (r *Roll) readRecord(ctx context.Context, rec *rollRecord) error {
	data, err := r.Storage.Load(ctx, r.file("state.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("roll %s: load state: %w", r.Name, err)
	}
	if err := json.Unmarshal(data, rec); err != nil {
		*rec = rollRecord{}
		return fmt.Errorf("roll %s: %s: %w: %w", r.Name, r.file("state.json"), err, errRollDamaged)
	}
	return nil
}

func (r *Roll) readKey(ctx context.Context) (crypto.Signer, error) {
	keyPEM, err := r.Storage.Load(ctx, r.file("next.key"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("roll %s: load next key: %w", r.Name, err)
	}
	key, err := certmagic.PEMDecodePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("roll %s: %s does not parse: %w", r.Name, r.file("next.key"), errRollDamaged)
	}
	return key, nil
}

func (r *Roll) makeKey(ctx context.Context, kind keyType) (crypto.Signer, error) {
	key, err := kind.generator.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	keyPEM, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if err := r.Storage.Store(ctx, r.file("next.key"), keyPEM); err != nil {
		return nil, fmt.Errorf("store key: %w", err)
	}
	return key.(crypto.Signer), nil
}

func (r *Roll) write(ctx context.Context, rec rollRecord) error {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return fmt.Errorf("roll %s: encode state: %w", r.Name, err)
	}
	if err := r.Storage.Store(ctx, r.file("state.json"), data); err != nil {
		return fmt.Errorf("roll %s: store state: %w", r.Name, err)
	}
	return nil
}

// forget deletes the key first: a record without a key is nothing, a key
// without a record would be taken by the next Begin.
func (r *Roll) forget(ctx context.Context) error {
	for _, name := range []string{"next.key", "state.json"} {
		if err := r.Storage.Delete(ctx, r.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("roll %s: delete %s: %w", r.Name, name, err)
		}
	}
	return nil
}

// phase is switched as soon as the certificate has the next key, even if we
// were killed before that could be written down.
func (rec *rollRecord) phase() RollPhase {
	switch {
	case rec.Next == "":
		return RollNone
	case !rec.Switched.IsZero(), rec.Next == rec.current:
		return RollSwitched
	default:
		return RollStaged
	}
}

// wanted is what has to be in DNS.
func (rec *rollRecord) wanted() []string {
	var data []string
	if rec.current != "" {
		data = append(data, rec.current)
	}
	if rec.phase() == RollStaged {
		data = append(data, rec.Next)
	}
	return data
}

// gone is what may be removed, which before the switch is nothing.
func (rec *rollRecord) gone() []string {
	if rec.phase() != RollSwitched {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(rec.Old), func(old string) bool { return old == rec.current })
}

func (rec *rollRecord) outdate(data string) {
	if data != "" && !slices.Contains(rec.Old, data) {
		rec.Old = append(slices.Clone(rec.Old), data)
		rec.Old = rec.Old[max(0, len(rec.Old)-rollOld):]
	}
}

func (r *Roll) state(rec rollRecord) RollState {
	names, _ := r.names() // checked by every caller
	return RollState{
		Phase: rec.phase(), Current: rec.current, Next: rec.Next,
		Started: rec.Started, Seen: rec.Seen, Checked: rec.Checked, Missing: rec.Missing, TTL: rec.TTL, Switched: rec.Switched,
		Publish: tlsaRecords(names, rec.wanted()...), Remove: tlsaRecords(names, rec.gone()...),
	}
}

// keyTLSA is for keys of our own, whose types are all known.
func keyTLSA(public crypto.PublicKey) string {
	data, err := TLSAData(public)
	if err != nil {
		panic(err)
	}
	return data
}

// hasKey says whether a certificate is of a key.
func hasKey(cert *x509.Certificate, public crypto.PublicKey) bool {
	data, err := TLSAData(cert)
	return err == nil && data == keyTLSA(public)
}
