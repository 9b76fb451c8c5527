package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"smtpseal/cmd/smtpseal/upgrade"
	"smtpseal/config"
)

// A purpose is whom an address is open for.
type purpose string

const (
	forMail  purpose = "mail"
	forHTTP  purpose = "http-01"
	forALPN  purpose = "tls-alpn-01"
	forAdmin purpose = "admin"
)

// A socket is an address of the configuration that is open: usually one
// listener, several where systemd opened them under one name. Those for mail are
// given to the server, which closes them. Of the others a copy is given away, so
// that a reload can change who is served without closing the address.
type socket struct {
	purpose purpose
	address config.Address
	nets    []net.Listener
	names   []string // by which each is handed to another process
}

func newSocket(w wanted, nets []net.Listener, inherited *upgrade.Sockets) socket {
	s := socket{purpose: w.purpose, address: w.address, nets: nets}
	for _, l := range nets {
		s.names = append(s.names, inherited.Hand(w.address.Network, w.address.Addr, l).Name)
	}
	return s
}

// isOurs reports whether the nth was opened by this program, so that it also
// removes its path.
func (s socket) isOurs(n int) bool {
	return s.names[n] == upgrade.Name(s.address.Network, s.address.Addr)
}

// A wanted is an address that a configuration wants open.
type wanted struct {
	purpose purpose
	address config.Address
	name    string // of the listener, for mail
}

// wants lists every address of a configuration, in its order.
func wants(c *config.Config) (all []wanted) {
	for _, l := range c.Listeners {
		for _, a := range l.Listen {
			all = append(all, wanted{forMail, a, l.Name})
		}
	}
	add := func(p purpose, addresses []config.Address) {
		for _, a := range addresses {
			all = append(all, wanted{p, a, string(p)})
		}
	}
	if c.ByACME() && slices.Contains(c.ACME.Challenges, "http-01") {
		add(forHTTP, c.ACME.HTTPListen)
	}
	if c.ByACME() && slices.Contains(c.ACME.Challenges, "tls-alpn-01") {
		add(forALPN, c.ACME.TLSALPNListen)
	}
	add(forAdmin, c.Admin.Listen)
	return all
}

// Sockets are those of one configuration. What is not fresh belongs to the one
// before it, too.
type sockets struct {
	open  []socket
	fresh []net.Listener // opened for this configuration: closed if it does not come to run
	lost  error          // why the admin listener's default address is not open
}

// openSockets opens every address that a configuration wants, or none. What is
// open already stays so; what systemd, or the process before us, has opened is
// taken. The error joins those of all addresses that failed, so that one attempt
// shows them all.
func openSockets(ctx context.Context, c *config.Config, before sockets, inherited *upgrade.Sockets) (sockets, error) {
	var next sockets
	var failed []error
	for _, w := range namedFirst(wants(c)) {
		one, fresh, err := openOne(ctx, w, before, inherited)
		switch {
		case err == nil:
			next.open = append(next.open, one)
			if fresh {
				next.fresh = append(next.fresh, one.nets...)
			}
		case w.purpose == forAdmin && w.address == config.AdminDefault:
			next.lost = err
		default:
			failed = append(failed, w.advise(err))
		}
	}
	if len(failed) > 0 {
		next.rollBack()
		return sockets{}, errors.Join(failed...)
	}
	return next, nil
}

func (w wanted) advise(err error) error {
	switch w.purpose {
	case forMail:
		return adviseListen(w.name, w.address, err)
	case forAdmin:
		return adviseAdmin(w.address, err)
	}
	return adviseChallenge(string(w.purpose), w.address, err)
}

func openOne(ctx context.Context, w wanted, before sockets, inherited *upgrade.Sockets) (one socket, fresh bool, err error) {
	if had := before.at(w.address); had != nil {
		if had.purpose == w.purpose {
			return *had, false, nil
		}
		one = *had
		one.purpose = w.purpose
		one.nets, err = copies(had.nets)
		return one, true, err
	}
	nets, err := openNew(ctx, w, inherited)
	return newSocket(w, nets, inherited), true, err
}

func openNew(ctx context.Context, w wanted, inherited *upgrade.Sockets) (nets []net.Listener, err error) {
	if w.address.Network == "systemd" {
		if nets = inherited.Named(w.address.Addr); len(nets) == 0 {
			return nil, fmt.Errorf("no socket of that name came from systemd, or a reload has given it up%s", among(inherited.Names()))
		}
		return nets, nil
	}
	for l := inherited.Take(w.address.Network, w.address.Addr); l != nil; l = inherited.Take(w.address.Network, w.address.Addr) {
		nets = append(nets, l)
	}
	if len(nets) > 0 {
		return nets, nil
	}
	l, err := listen(ctx, w.address)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// namedFirst lets sockets that the configuration names be taken by their name
// before others are looked for by address.
func namedFirst(all []wanted) []wanted {
	named := func(w wanted) bool { return w.address.Network == "systemd" }
	first := slices.DeleteFunc(slices.Clone(all), func(w wanted) bool { return !named(w) })
	return append(first, slices.DeleteFunc(all, named)...)
}

func among(names []string) string {
	if len(names) == 0 {
		return ": it gave none"
	}
	return fmt.Sprintf(": there are %q", names)
}

func (s sockets) at(a config.Address) *socket {
	for i := range s.open {
		if s.open[i].address == a {
			return &s.open[i]
		}
	}
	return nil
}

// nets are the listeners of one purpose.
func (s sockets) nets(p purpose) (all []net.Listener) {
	for _, one := range s.open {
		if one.purpose == p {
			all = append(all, one.nets...)
		}
	}
	return all
}

// copies are as good as what they are made of, and are closed on their own.
func copies(nets []net.Listener) (all []net.Listener, err error) {
	for _, l := range nets {
		c, err := copyOf(l)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("copy the listener of %s: %w", l.Addr(), err)
		}
		all = append(all, c)
	}
	return all, nil
}

// rollBack gives up what was opened for a configuration that does not run.
func (s sockets) rollBack() { closeAll(s.fresh) }

// retire closes what the next configuration does not want. Those for mail are
// the server's, which closes them itself.
func (s sockets) retire(next sockets) {
	for _, one := range s.open {
		now := next.at(one.address)
		if one.purpose != forMail && (now == nil || now.purpose != one.purpose) {
			closeAll(one.nets)
		}
	}
}

// keepPathsFor lets unix sockets that live on for another purpose, as a copy, be
// closed without removing their paths, which go with the copy.
func (s sockets) keepPathsFor(next sockets) {
	for _, one := range s.open {
		if now := next.at(one.address); now != nil && now.purpose != one.purpose {
			for i := range one.nets {
				unlinking(one.nets[i], false)
				unlinking(now.nets[i], now.isOurs(i))
			}
		}
	}
}

func unlinking(l net.Listener, on bool) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(on)
	}
}

// handed are all that are open, for the process that takes over.
func (s sockets) handed() (all []upgrade.Handed) {
	for _, one := range s.open {
		for i, l := range one.nets {
			all = append(all, upgrade.Handed{Name: one.names[i], Listener: l})
		}
	}
	return all
}

func closeAll(nets []net.Listener) {
	for _, l := range nets {
		l.Close()
	}
}

// addresses are where the listeners for mail really are.
func (s sockets) addresses() []string { return s.addressesFor(forMail) }

func (s sockets) addressesFor(p purpose) (all []string) {
	for _, l := range s.nets(p) {
		all = append(all, addressOf(l))
	}
	return all
}

func addressOf(l net.Listener) string {
	return config.Address{Network: l.Addr().Network(), Addr: l.Addr().String()}.String()
}
