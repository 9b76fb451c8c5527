package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"smtpseal/admin"
	"smtpseal/certs"
	"smtpseal/proxy"
)

// status is all there is to say now.
func (s *service) status() admin.Status {
	now, totals := s.now.Load(), s.counters.Totals()
	info := read()
	status := admin.Status{
		State:            admin.Ready,
		Build:            admin.Build{Version: info.Version, Commit: info.Revision, Go: info.Go},
		Hostname:         now.hostname,
		Config:           s.file,
		Started:          s.began,
		Now:              time.Now(),
		PID:              os.Getpid(),
		Reasons:          s.reasons(now),
		Listeners:        s.listenerStatus(now, totals),
		Backends:         s.backendStatus(now),
		Certificates:     s.certificateStatus(now),
		Reloads:          s.reloads.status(),
		Upgrade:          s.upgrades.status(),
		Violations:       map[string]int64{},
		ProxyLeftOut:     totals.LeftOut,
		HandshakeSeconds: admin.Histogram(totals.HandshakeSeconds),
		DialSeconds:      admin.Histogram(totals.DialSeconds),
	}
	for _, kind := range proxy.ViolationKinds {
		status.Violations[kind] = totals.Violations[kind]
	}
	for _, f := range s.failures.Last() {
		status.Failures = append(status.Failures, admin.Failure(f))
	}
	if s.asked.Err() != nil {
		status.State = admin.Draining
	}
	status.Ready = len(status.Reasons) == 0
	return status
}

// reasons are why no new clients should be sent here.
func (s *service) reasons(now *setup) (all []string) {
	if s.asked.Err() != nil {
		all = append(all, "draining: smtpseal was told to stop")
	}
	for _, problem := range now.keeping.source.Problems() {
		all = append(all, "certificate: "+problem)
	}
	for _, name := range now.used() {
		b := now.backends[name]
		if b.Up() {
			continue
		}
		var why []string
		for _, server := range b.State() {
			why = append(why, server.Error)
		}
		all = append(all, "backend "+name+" is down: "+strings.Join(why, "; "))
	}
	return all
}

func (s *service) listenerStatus(now *setup, totals proxy.Totals) (all []admin.Listener) {
	live := s.server.Live()
	for _, l := range now.config.Listeners {
		one := traffic(l.Name, live, totals)
		one.Mode, one.Backend, one.TLSReady = l.Mode, l.Backend, now.by[l.Name].TLS() != nil
		for _, a := range l.Listen {
			for _, open := range now.sockets.at(a).nets {
				one.Addresses = append(one.Addresses, addressOf(open))
			}
		}
		all = append(all, one)
	}
	for _, name := range removed(now, live, totals) {
		one := traffic(name, live, totals)
		one.Removed = true
		all = append(all, one)
	}
	return all
}

// removed are the listeners that a reload has taken away and that had sessions,
// sorted: a session that has ended must stay counted, one that is up be seen.
func removed(now *setup, live map[proxy.LiveKey]int, totals proxy.Totals) []string {
	names := map[string]bool{}
	for key := range live {
		names[key.Listener] = true
	}
	for key := range totals.Sessions {
		names[key.Listener] = true
	}
	for _, l := range now.config.Listeners {
		delete(names, l.Name)
	}
	return slices.Sorted(maps.Keys(names))
}

// traffic is what goes and went through a listener.
func traffic(name string, live map[proxy.LiveKey]int, totals proxy.Totals) admin.Listener {
	one := admin.Listener{
		Name: name, Sessions: map[string]int{}, Ended: map[string]int64{},
		Messages: totals.Messages[name], BytesIn: totals.BytesIn[name], BytesOut: totals.BytesOut[name],
	}
	for _, phase := range proxy.Phases {
		one.Sessions[string(phase)] = live[proxy.LiveKey{Listener: name, Phase: phase}]
	}
	for _, outcome := range proxy.Outcomes {
		one.Ended[string(outcome)] = totals.Sessions[proxy.SessionKey{Listener: name, Outcome: outcome}]
	}
	for key, count := range totals.Handshakes {
		if key.Listener == name {
			one.Handshakes = append(one.Handshakes, admin.Handshakes{Version: key.Version, Result: key.Result, Count: count})
		}
	}
	slices.SortFunc(one.Handshakes, func(a, b admin.Handshakes) int {
		return strings.Compare(b.Version+b.Result, a.Version+a.Result) // the newest version first
	})
	return one
}

func (s *service) backendStatus(now *setup) (all []admin.Backend) {
	for _, b := range now.config.Backends {
		if !slices.Contains(now.used(), b.Name) {
			continue
		}
		one := admin.Backend{Name: b.Name, ProxyProtocol: b.ProxyProtocol, Warning: s.relays.warning(b.Name)}
		for _, server := range now.backends[b.Name].State() {
			one.Servers = append(one.Servers, admin.BackendServer{
				Address: server.Server.String(), Up: server.Up, Known: server.Known, Since: server.Since,
				Checked: server.Checked, Error: server.Error, Hint: server.Hint,
			})
		}
		all = append(all, one)
	}
	return all
}

func (s *service) certificateStatus(now *setup) (all []admin.Certificate) {
	for _, c := range now.keeping.source.Certificates() {
		all = append(all, admin.Certificate{
			Names: c.Names, Source: c.Source, KeyType: c.KeyType, Issuer: c.Issuer, Serial: c.Serial,
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, NextRenewal: c.NextRenewal, NextTry: c.NextTry,
			LastError: c.LastError, Problem: c.Problem, Hint: c.Remedy, Renewals: s.renewals.of(c.Name, c.KeyType),
		})
	}
	return all
}

// Renewals counts tries by certificate over all that a reload replaces.
type renewals struct {
	mu  sync.Mutex
	all map[string]admin.Results // by name and type of key: bounded by the configurations
}

func (r *renewals) observe(e certs.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]admin.Results{}
	}
	key := e.Name + " " + e.KeyType
	counts := r.all[key]
	switch e.Kind {
	case certs.EventObtained, certs.EventRenewed:
		counts.OK++
	case certs.EventFailed:
		counts.Failed++
	}
	r.all[key] = counts
}

func (r *renewals) of(name, keyType string) admin.Results {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[name+" "+keyType]
}

func (r *reloads) status() admin.Reloads {
	r.mu.Lock()
	defer r.mu.Unlock()
	return admin.Reloads{Results: admin.Results{OK: r.ok, Failed: r.failed}, Last: r.last}
}
