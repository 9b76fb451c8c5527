package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"smtpseal/certs"
)

// begun is an internal certificate whose key is being changed, for these ports.
func begun(t *testing.T, ports ...int) (file string, next string) {
	t.Helper()
	dir := t.TempDir()
	source, _ := makeInternal(t, dir, "localhost")
	r, err := source.Roll("localhost", "")
	if err != nil {
		t.Fatal(err)
	}
	r.Ports = ports
	state, err := r.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "c.yaml", settings(":465", "127.0.0.1:25", internalIn(dir))), state.Next
}

func TestListShowsARollOver(t *testing.T) {
	file, _ := begun(t, 25)
	code, stdout, stderr := command("certs", "list", "-c", file)
	want := "localhost: its key is being changed: the next record has not been looked for: publish it, then check; go on with: smtpseal certs roll localhost\n"
	if code != 0 || !strings.Contains(stdout, want) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	_, lines := listed(t, file)
	if roll := lines[0].Roll; roll == nil || roll.Phase != certs.RollStaged || roll.Started == nil || roll.Waiting == "" {
		t.Errorf("%+v", lines[0])
	}
	dir := t.TempDir()
	makeInternal(t, dir, "localhost")
	if _, lines := listed(t, write(t, "c.yaml", settings(":465", "127.0.0.1:25", internalIn(dir)))); lines[0].Roll != nil {
		t.Errorf("nothing is under way: %+v", lines[0].Roll)
	}
}

func TestRollRemembersPorts(t *testing.T) {
	file, next := begun(t, 2525)
	code, stdout, stderr := command("certs", "roll", "localhost", "--port", "25", "-c", file)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "begun for [2525], not [25]: name those or none") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = command("certs", "roll", "localhost", "--abandon", "-c", file)
	if code != 0 || !strings.Contains(stdout, "forgotten") || !strings.Contains(stdout, "_2525._tcp.localhost. IN TLSA "+next) {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = command("certs", "roll", "localhost", "--abandon", "-c", file)
	if want := "no roll-over of localhost is under way: there is nothing to abandon\n"; code != 0 || stdout != want {
		t.Errorf("a second time: exit %d: %s%s", code, stdout, stderr)
	}
}

// A rollStore is a storage of one process.
type rollStore struct{ values map[string][]byte }

func (s rollStore) Lock(context.Context, string) error   { return nil }
func (s rollStore) Unlock(context.Context, string) error { return nil }
func (s rollStore) Store(_ context.Context, key string, value []byte) error {
	s.values[key] = slices.Clone(value)
	return nil
}
func (s rollStore) Load(_ context.Context, key string) ([]byte, error) {
	if value, ok := s.values[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}
func (s rollStore) Delete(_ context.Context, key string) error { delete(s.values, key); return nil }
func (s rollStore) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}
func (s rollStore) List(context.Context, string, bool) ([]string, error) {
	return nil, errors.New("not asked for")
}
func (s rollStore) Stat(context.Context, string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, errors.New("not asked for")
}

// A lateZone has a server that shows what was published no sooner than it likes.
type lateZone struct {
	asked   int
	late    time.Duration
	since   time.Time
	records []string
}

func (z *lateZone) Publish(_ context.Context, _ string, add, remove []string, _ time.Duration) error {
	if z.since.IsZero() {
		z.since = time.Now()
	}
	z.records = slices.DeleteFunc(append(z.records, add...), func(r string) bool { return slices.Contains(remove, r) })
	return nil
}

func (z *lateZone) TLSA(context.Context, string) (map[string]certs.TLSAAnswer, time.Duration, error) {
	z.asked++
	if time.Since(z.since) < z.late {
		return map[string]certs.TLSAAnswer{"ns1": {}}, time.Hour, nil
	}
	return map[string]certs.TLSAAnswer{"ns1": {Records: z.records}}, time.Hour, nil
}

// rollRig is `certs roll --publish --wait` in a world of its own. The CA refuses
// so many times, and notes when it was asked.
func rollRig(t *testing.T, late time.Duration, refusals int) (r *roller, said *bytes.Buffer, asked *[]time.Time) {
	t.Helper()
	certificate := func(key crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org"}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	first, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	current := certificate(first)
	said, asked = new(bytes.Buffer), new([]time.Time)
	r = &roller{program: program{stdout: said, stderr: said}, publish: true, wait: true, ttl: time.Hour}
	r.Roll = &certs.Roll{Name: "mail.example.org", KeyType: "p256", Ports: []int{25}, Storage: rollStore{map[string][]byte{}}, Zone: &lateZone{late: late},
		Current: func(context.Context) (*x509.Certificate, error) { return current, nil }}
	r.issue = func(_ context.Context, _ *certs.Roll, key crypto.Signer) error {
		if *asked = append(*asked, time.Now()); len(*asked) <= refusals {
			return errors.New("too many orders")
		}
		current = certificate(key)
		return nil
	}
	return r, said, asked
}

// Who waits for hours is told how many, what for, and that it lives, in a page.
func TestRollWaitsAndSaysHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said, asked := rollRig(t, 20*time.Minute, 0)
		began := time.Now()
		if err := r.roll(t.Context()); err != nil {
			t.Fatal(err, said)
		}
		if took := time.Since(began); took < 140*time.Minute || took > 142*time.Minute || len(*asked) != 1 {
			t.Errorf("took %v, %d orders", took, len(*asked))
		}
		if asked := r.Zone.(*lateZone).asked; asked > 141*2+5 {
			t.Errorf("the zone's servers were asked %d times", asked)
		}
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		for i, want := range []string{
			"this takes 2h1m5s or more: every server of the zone must have the next record for two TTLs (of 1h0m0s)",
			"waiting for the next record: ns1 lacks _25._tcp.mail.example.org.; then 2h0m0s more",
		} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d is %q, want %q", i, lines[i], want)
			}
		}
		for _, want := range []string{"every server has the next record since", "; 1h50m0s left, until", "has its next key", "until every replica serves it: 1m5s left", "the roll-over is done"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("no %q in\n%s", want, said)
			}
		}
		if len(lines) < 12 || len(lines) > 22 { // a line each ten minutes
			t.Errorf("%d lines:\n%s", len(lines), said)
		}
	})
}

// A CA that refuses is not asked each second: it counts.
func TestRollLeavesARefusingCAAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, said, asked := rollRig(t, 0, 3)
		if err := r.roll(t.Context()); err != nil {
			t.Fatal(err, said)
		}
		var pauses []time.Duration
		for i := 1; i < len(*asked); i++ {
			pauses = append(pauses, (*asked)[i].Sub((*asked)[i-1]))
		}
		if !slices.Equal(pauses, []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute}) {
			t.Errorf("pauses %v", pauses)
		}
		if !strings.Contains(said.String(), "too many orders") || !strings.Contains(said.String(), "next try in 1m0s") {
			t.Error(said)
		}
	})
}

func TestRollWithoutWaitingLooksOnce(t *testing.T) {
	r, said, asked := rollRig(t, time.Hour, 0)
	r.wait = false
	err := r.roll(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not visible everywhere") || said.Len() > 0 || len(*asked) > 0 {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestPatienceOnATerminal(t *testing.T) {
	var out bytes.Buffer
	p := &patience{out: &out, live: true}
	p.tell("waiting for ns1", "10s left")
	p.tell("waiting for ns1", "9s left")
	p.tell("every server has it", "1h left")
	p.end()
	if got := out.String(); strings.Count(got, "\n") != 4 || strings.Count(got, "waiting for ns1") != 1 || strings.Count(got, "\r\x1b[K") != 3 {
		t.Errorf("%q", got)
	}
}
