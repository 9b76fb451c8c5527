package config

import (
	"net"
	"net/netip"
)

// A bound holds every address that we are to listen on and the path of
// the key that says so.
type bound struct {
	exact map[Address]string // as everyHost spells them
	port  map[string]string  // the first one on each TCP port
}

func newBound() bound { return bound{make(map[Address]string), make(map[string]string)} }

const (
	ourselves      = " is our own address, and sessions would go round in circles"
	whereItListens = "write where the mail server itself listens"
)

// everyHost spells all addresses of this machine one way: Go listens on every
// one of them, IPv4 and IPv6, for each of "", 0.0.0.0 and ::.
func everyHost(a Address) (spelt Address, host, port string) {
	if a.Network != "tcp" {
		return a, "", ""
	}
	host, port, _ = net.SplitHostPort(a.Addr)
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = ""
	}
	return Address{a.Network, net.JoinHostPort(host, port)}, host, port
}

// add takes an address, or says which earlier one leaves no room for it: an
// address and every address cannot share a port.
func (b bound) add(a Address, path string) (earlier string, ok bool) {
	spelt, host, port := everyHost(a)
	earlier, taken := b.exact[spelt]
	if !taken && a.Network == "tcp" {
		if host == "" {
			earlier, taken = b.port[port]
		} else {
			earlier, taken = b.exact[Address{"tcp", ":" + port}]
		}
	}
	if taken {
		return earlier, false
	}
	b.exact[spelt] = path
	if _, ok := b.port[port]; !ok && a.Network == "tcp" {
		b.port[port] = path
	}
	return "", true
}

// reaches says which of our own listeners answers who dials a.
func (b bound) reaches(a Address) (path string, ok bool) {
	spelt, host, port := everyHost(a)
	path, ok = b.exact[spelt]
	ip, err := netip.ParseAddr(host)
	if !ok && (host == "localhost" || err == nil && ip.IsLoopback()) {
		path, ok = b.exact[Address{"tcp", ":" + port}]
	}
	return path, ok
}

// checkAddresses finds addresses that cannot be bound together, and backends
// that are ourselves.
func (d *document) checkAddresses() {
	ours := newBound()
	for i, l := range d.Listeners {
		at := d.listeners[i].at("listen")
		for _, a := range l.Listen {
			if earlier, ok := ours.add(a, at.path); !ok {
				at.wrong(quote(a.String())+" is taken by "+earlier, "write another port or host, or remove one of the two")
			}
		}
	}
	d.checkBackends(ours)
	d.checkACMEAddresses(ours)
	d.checkAdmin(ours)
}

// checkBackends finds those that are listeners of ours.
func (d *document) checkBackends(ours bound) {
	for i, b := range d.Backends {
		at := d.backends[i].at("servers")
		for _, a := range b.Servers {
			if listener, ok := ours.reaches(a); ok {
				at.wrong(quote(a.String())+ourselves+" (it is in "+listener+")", whereItListens)
			}
		}
	}
}
