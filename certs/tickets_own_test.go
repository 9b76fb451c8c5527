package certs

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A reload makes new configurations, with the same Source or, where storage or
// ACME have changed, another one. Nobody needs a full handshake for it.
func TestTicketsOfAProcessSurviveAReload(t *testing.T) {
	ca, keys := newPKI(t), NewTickets()
	caFile := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, caFile, newPKI(t).pem)
	o := Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}})), Tickets: keys}
	one, _ := open(t, o)
	other, _ := open(t, o)
	stranger, _ := open(t, Options{Entries: o.Entries}) // another process, as far as tickets go
	smtp := Policy{Listener: "smtp"}
	explicit := smtp
	explicit.SessionTickets = "per_process"
	before := config(t, one, smtp)
	changed := map[string]Policy{"another name": {Listener: "submission"}, "no name": {}}
	for name, change := range map[string]func(*Policy){
		"client_auth": func(p *Policy) { p.ClientAuth, p.ClientCAFile = "require", caFile },
		"asking":      func(p *Policy) { p.ClientAuth, p.ClientCAFile = "request", caFile },
		"min_version": func(p *Policy) { p.MinVersion = "1.1" },
		"policy":      func(p *Policy) { p.Name = "legacy" },
		"curves":      func(p *Policy) { p.Curves = []string{"X25519"} },
	} {
		p := smtp
		change(&p)
		changed[name] = p
	}
	forVersions(t, func(t *testing.T, version uint16) {
		for name, s := range map[string]*Source{"the same Source": one, "another Source": other} {
			after := config(t, s, smtp)
			if !resumes(t, version, before, after) || !resumes(t, version, after, before) {
				t.Errorf("not resumed at %s", name)
			}
			for name, p := range changed {
				c := config(t, s, p)
				c.ClientAuth = tls.NoClientCert // or the client without a certificate is refused before its ticket counts
				if resumes(t, version, before, c) || resumes(t, version, c, before) {
					t.Errorf("resumed though changed: %s", name)
				}
			}
		}
		if c := config(t, stranger, smtp); resumes(t, version, before, c) || resumes(t, version, c, before) {
			t.Error("resumed at another process")
		}
	})
}

// The file of CAs is read anew by a reload; who was let in by the old one shows
// a certificate again.
func TestTicketsEndWithTheirFileOfCAs(t *testing.T) {
	ca, keys := newPKI(t), NewTickets()
	s, _ := open(t, Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}})), Tickets: keys})
	p := Policy{Listener: "smtp", ClientAuth: "request", ClientCAFile: filepath.Join(t.TempDir(), "clients.pem")}
	writeFile(t, p.ClientCAFile, newPKI(t).pem)
	before := config(t, s, p)
	if !resumes(t, tls.VersionTLS13, before, config(t, s, p)) {
		t.Error("not resumed with the same file")
	}
	writeFile(t, p.ClientCAFile, newPKI(t).pem)
	if resumes(t, tls.VersionTLS13, before, config(t, s, p)) {
		t.Error("resumed under other CAs")
	}
}

// The keys of a process live as crypto/tls's do, and nothing is logged or kept
// of them.
func TestTicketsOfAProcessRotateDaily(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		keys := NewTickets()
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { keys.Run(ctx) })
		defer func() { cancel(); done.Wait() }()
		r := &replica{tickets: keys.tickets}
		r.tls = r.listener(cert, "smtp", "policy")
		began := time.Now()
		seals := map[string]bool{}
		keep := newVisitor(t, tls.VersionTLS13) // comes back every day with the ticket of its last visit
		keep.visit(r.tls)
		for range 10 {
			seals[r.sealed()] = true
			first := r.sealed()
			time.Sleep(ticketRotation + time.Minute)
			if r.sealed() == first || !r.opens(first) {
				t.Errorf("%s: not rotated, or the last one is gone", time.Since(began))
			}
			if !keep.visit(r.tls) {
				t.Errorf("%s: not resumed a day later", time.Since(began))
			}
		}
		if len(seals) != 10 || r.owned() > maxTicketKeys {
			t.Errorf("%d keys sealed in ten days, %d are kept", len(seals), r.owned())
		}
	})
}

func TestTicketOfAProcessIsDeadAfterSevenDays(t *testing.T) {
	forVersions(t, func(t *testing.T, version uint16) {
		inBubble(t, func(t *testing.T, cert *tls.Certificate) {
			keys := NewTickets()
			r := &replica{tickets: keys.tickets}
			r.start(t)
			r.tls = r.listener(cert, "smtp", "policy")
			time.Sleep(ticketRotation - time.Minute)
			early, late := newVisitor(t, version), newVisitor(t, version)
			early.visit(r.tls)
			late.visit(r.tls)
			time.Sleep(ticketLifetime - ticketRotation)
			if !early.visit(r.tls) {
				t.Error("dead before its seventh day ended")
			}
			time.Sleep(2 * time.Minute)
			if late.visit(r.tls) {
				t.Error("alive on its eighth day")
			}
		})
	})
}

// A Source that is given none runs its own.
func TestSourceRunsItsOwnTickets(t *testing.T) {
	ca := newPKI(t)
	s, _ := open(t, Options{Entries: pairs(ca.files(spec{names: []string{"mail.example.org"}}))})
	run(t, s)
	before := config(t, s, Policy{Listener: "smtp"})
	if !resumes(t, tls.VersionTLS13, before, config(t, s, Policy{Listener: "smtp"})) {
		t.Error("not resumed")
	}
	within(t, "running", func() bool {
		return slices.ContainsFunc(ours(), func(stack string) bool { return strings.Contains(stack, "(*Tickets).Run") })
	})
}

// Shared keys are in the storage, where a second Source finds them before its
// first handshake: no poll has to come first.
func TestSharedTicketsSurviveAReload(t *testing.T) {
	ca, dir, key := newPKI(t), t.TempDir(), strings.Repeat("k", 40)
	smtp := Policy{SessionTickets: "shared", Listener: "smtp"}
	one, _ := sharing(t, ca, encrypted(t, dir, key))
	before := config(t, one, smtp)
	within(t, "sealing with a shared key", func() bool {
		one.tickets.mu.Lock()
		defer one.tickets.mu.Unlock()
		return len(one.tickets.shared) == 1
	})
	next, _ := open(t, Options{Entries: one.options.Entries, Storage: encrypted(t, dir, key)}) // not run yet
	after := config(t, next, smtp)
	forVersions(t, func(t *testing.T, version uint16) {
		within(t, "the same key", func() bool { return resumes(t, version, before, after) })
		if !resumes(t, version, after, before) || !resumes(t, version, before, config(t, one, smtp)) {
			t.Error("not resumed")
		}
	})
}

// A storage that is silent must not hold up a start for long, nor for each
// listener.
func TestSilentStorageDelaysListenersOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, cert *tls.Certificate) {
		store := newMemory()
		store.silence(true)
		began := time.Now()
		r := newReplica(t, cert, store)
		for _, name := range []string{"submission", "submissions", "mx"} {
			r.listener(cert, name, "policy")
		}
		if took := time.Since(began); took > ticketBegin {
			t.Errorf("took %s", took)
		}
	})
}

// What a handshake costs with keys of ours, and with crypto/tls's own.
func BenchmarkResumption(b *testing.B) {
	cert := newPKI(b).certificate(spec{names: []string{"mail.example.org"}})
	for name, listener := range map[string]func() *tls.Config{
		"crypto/tls": func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
		},
		"ours": func() *tls.Config {
			r := &replica{tickets: NewTickets().tickets}
			for range maxTicketKeys - 1 {
				r.own = addTicketKey(r.own, time.Now())
			}
			return r.listener(cert, "smtp", "policy")
		},
	} {
		b.Run(name, func(b *testing.B) {
			server, v := listener(), newVisitor(b, tls.VersionTLS13)
			v.visit(server)
			b.ReportAllocs()
			for b.Loop() {
				if !v.visit(server) {
					b.Fatal("not resumed")
				}
			}
		})
	}
}
