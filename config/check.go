package config

import (
	"fmt"
)

// check looks at what one part of the file says about another. A part with a
// mistake of its own is passed over: one slip should be one line.
func (d *document) check() {
	d.checkListenerNames()
	d.checkReferences()
	d.checkAddresses()
	d.checkCertificateNames()
	d.checkACMENames()
	d.checkTickets()
}

// checkTickets: whoever has the keys of session tickets can read sessions that
// were recorded, so they are not kept where others can read them.
func (d *document) checkTickets() {
	if d.TLS.SessionTickets == "shared" && d.Storage.EncryptionKey.IsZero() && !d.root.broken("storage") {
		d.tls.at("session_tickets").wrong("shared needs storage.encryption_key",
			"write storage.encryption_key, the same for every replica, such as openssl rand -hex 32 makes it, or session_tickets: per_process")
	}
}

func (d *document) checkListenerNames() {
	first := make(map[string]int)
	for i, l := range d.Listeners {
		if l.Name == "" {
			continue
		}
		if j, twice := first[l.Name]; twice {
			d.listeners[i].at("name").wrong(quote(l.Name)+" is also the name of "+d.listeners[j].path, "write another name")
			continue
		}
		first[l.Name] = i
	}
}

// checkReferences resolves every listener's backend. The only one there is
// need not be named.
func (d *document) checkReferences() {
	byName := make(map[string]*Backend)
	for i := range d.Backends {
		byName[d.Backends[i].Name] = &d.Backends[i]
	}
	for i := range d.Listeners {
		l, s := &d.Listeners[i], d.listeners[i]
		switch {
		case len(d.Backends) == 0 || s.broken("backend"):
		case !s.has("backend") && len(d.Backends) == 1:
			l.Backend = d.Backends[0].Name
		case !s.has("backend"):
			s.at("backend").wrong("is missing", "write "+alternatives(d.backendNames()))
		case byName[l.Backend] == nil:
			s.at("backend").wrong(quote(l.Backend)+" is not defined", d.backendRemedy(l.Backend))
		}
		if b := byName[l.Backend]; b != nil {
			checkUnix(l, b, s)
		}
	}
}

// checkUnix: a client on a unix socket has no address of its own to put into a
// PROXY header, so someone before us must have told it.
func checkUnix(l *Listener, b *Backend, s section) {
	if b.ProxyProtocol != "v1" && b.ProxyProtocol != "v2" || l.AcceptUnix || s.broken("accept_proxy") {
		return
	}
	for _, a := range l.Listen {
		if a.Network == "unix" {
			s.at("accept_proxy").wrong(
				fmt.Sprintf("has no unix in it, but backend %s is to be told a client's address, which a unix socket does not have", pathKey(b.Name)),
				"write accept_proxy: [unix], and let what opens the socket begin with a PROXY header")
			return
		}
	}
}

// maxNamed bounds how many backends a mistake names and compares.
const maxNamed = 20

func (d *document) backendNames() []string {
	var all []string
	for _, b := range d.Backends[:min(len(d.Backends), maxNamed)] {
		all = append(all, pathKey(b.Name))
	}
	return all
}

func (d *document) backendRemedy(name string) string {
	all := d.backendNames()
	if near := nearest(name, all); near != "" {
		return "did you mean `" + near + "`?"
	}
	return "write " + alternatives(all) + ", or define it under backends"
}

// checkCertificateNames finds a name that two certificates claim, each of which
// would be made, and one of them in vain.
func (d *document) checkCertificateNames() {
	first := make(map[string]string)
	for i, c := range d.Certificates {
		s := d.certificates[i]
		for _, name := range c.Names {
			where, twice := first[name]
			switch {
			case !twice:
				first[name] = s.path
			case where == s.path:
				s.at("names").wrong(quote(name)+" is written twice", "keep one of the two")
			default:
				s.at("names").wrong(quote(name)+" is also in "+where, "keep it in one of the two")
			}
		}
	}
}
