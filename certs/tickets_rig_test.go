package certs

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

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

// owned returns how many keys the replica made for itself.
func (r *replica) owned() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.own)
}
