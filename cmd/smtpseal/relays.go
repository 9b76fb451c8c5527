package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"smtpseal/config"
	"smtpseal/probe"
	"smtpseal/proxy/backend"
)

// The check for open relays asks a backend, as a stranger, to take mail for a
// foreign domain, and goes away before there is any mail. Addresses and domains
// are those for documentation (RFC 5737, RFC 2606): nobody has them.
var (
	stranger = backend.Facts{Client: netip.MustParseAddrPort("192.0.2.1:25025"), Local: netip.MustParseAddrPort("198.51.100.1:25"), ID: "relay-check"}
	foreign  = struct{ from, to string }{"relay-check@example.com", "relay-check@example.net"}
)

// relayTimeout bounds the check of one backend; a start with relay_check: refuse
// waits for it.
const relayTimeout = 15 * time.Second

// Relays are what came of the checks, by backend.
type relays struct {
	mu     sync.Mutex
	found  map[string]string // a warning, or "" where all is well; absent: not known
	asking map[*backend.Backend]bool
}

// set keeps the answer to a question of a setup that lives as long as life. What
// an earlier one hears says nothing of the servers that have the name now.
func (r *relays) set(life context.Context, name, warning string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if life.Err() != nil {
		return
	}
	if r.found == nil {
		r.found = map[string]string{}
	}
	r.found[name] = warning
}

func (r *relays) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, name)
}

func (r *relays) warning(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found[name]
}

// begin reports whether the caller is the one to ask a backend, and then owes
// an end.
func (r *relays) begin(b *backend.Backend) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.found[b.Name]; known || r.asking[b] {
		return false
	}
	if r.asking == nil {
		r.asking = map[*backend.Backend]bool{}
	}
	r.asking[b] = true
	return true
}

func (r *relays) end(b *backend.Backend) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asking, b)
}

// An openRelay is the answer that nobody wants.
type openRelay struct{ backend, reply, why string }

func (e openRelay) Error() string {
	return fmt.Sprintf("backend %s relays mail for strangers: it answered %q to a recipient in a foreign domain. %s", e.backend, e.reply, e.why)
}

// checkRelay asks one backend. An error other than openRelay says that it could
// not be asked.
func checkRelay(ctx context.Context, b *backend.Backend) error {
	ctx, cancel := context.WithTimeout(ctx, relayTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	born, err := b.DialContext(ctx, deadline, stranger)
	if err != nil {
		return err
	}
	defer born.Conn.Close()
	accepted, reply, err := probe.Relay(ctx, born.Conn, b.Helo, foreign.from, foreign.to)
	if err != nil || !accepted {
		return err
	}
	why := "Whoever reaches smtpseal can send through it: take 192.0.2.1 and all the world out of what it trusts (mynetworks, relay hosts)"
	if b.Proxy == backend.Off {
		why = "It takes every client for this machine, which it trusts: take this machine's address out of what it trusts (mynetworks, relay hosts), or let a PROXY header tell it who the client is"
	}
	return openRelay{b.Name, reply, why}
}

// askForRelays asks the backends that are new, or differ from before, if the
// configuration is not to run with an open relay.
func (s *service) askForRelays(ctx context.Context, next, before *setup) error {
	var refused []error
	for _, b := range next.config.Backends {
		one := next.backends[b.Name]
		if !next.uses(b.Name) || b.RelayCheck != "refuse" || next.relayKnown(b, before) {
			continue
		}
		err := checkRelay(ctx, one)
		var open openRelay
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &open):
			refused = append(refused, advised{err, "or write backends." + b.Name + ".relay_check: warn, to serve all the same"})
		case err != nil:
			s.log.Warn("backend not asked whether it relays for strangers; it will be when it is up", zap.String("backend", b.Name), zap.Error(err))
		default:
			next.noRelays = append(next.noRelays, b.Name)
		}
	}
	return errors.Join(refused...)
}

// relayKnown reports whether a backend was asked already, as it is now.
func (n *setup) relayKnown(b config.Backend, before *setup) bool {
	if before.config == nil {
		return false
	}
	for _, old := range before.config.Backends {
		if old.Name == b.Name {
			return before.uses(b.Name) && reflect.DeepEqual(old, b)
		}
	}
	return false
}

// wantsRelayCheck reports whether a backend that is used is to be asked.
func (n *setup) wantsRelayCheck(name string) bool {
	return n.uses(name) && slices.ContainsFunc(n.config.Backends, func(b config.Backend) bool { return b.Name == name && b.RelayCheck != "off" })
}

// askLater asks the others beside the work.
func (s *service) askLater(next, before *setup) {
	for _, b := range next.config.Backends {
		if b.RelayCheck == "off" || !next.relayKnown(b, before) {
			s.relays.forget(b.Name)
		}
		if slices.Contains(next.noRelays, b.Name) {
			s.relays.set(next.life, b.Name, "")
		}
		if next.wantsRelayCheck(b.Name) {
			next.asking.Go(func() { s.askForRelay(next, b.Name) })
		}
	}
}

// askForRelay asks a backend of which nothing is known. One that is not up yet is
// asked as soon as it is.
func (s *service) askForRelay(n *setup, name string) {
	b := n.backends[name]
	if !s.relays.begin(b) {
		return
	}
	defer s.relays.end(b)
	err := checkRelay(n.life, b)
	var open openRelay
	switch {
	case errors.As(err, &open):
		s.relays.set(n.life, name, err.Error())
		s.log.Warn("open relay", zap.String("backend", name), zap.String("reply", open.reply), zap.String("hint", open.why))
	case err == nil:
		s.relays.set(n.life, name, "")
	case n.life.Err() == nil:
		s.log.Info("backend not asked whether it relays for strangers; it will be when it is up", zap.String("backend", name), zap.Error(err))
	}
}
