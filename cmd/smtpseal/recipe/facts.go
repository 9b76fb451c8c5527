package recipe

import (
	"slices"
	"strings"
)

// The templates ask these of the facts.

// Here are the servers on the first one's host, for which the recipe is.
func (f Facts) Here() []Server {
	return slices.DeleteFunc(slices.Clone(f.Servers), f.isElsewhere)
}

// Elsewhere are the servers on other hosts, each of which needs the same with
// its own address.
func (f Facts) Elsewhere() []Server {
	return slices.DeleteFunc(slices.Clone(f.Servers), func(s Server) bool { return !f.isElsewhere(s) })
}

func (f Facts) isElsewhere(s Server) bool {
	first := f.Servers[0]
	return s.Host != first.Host && !(s.Loopback() && first.Loopback())
}

// Ports are those of Here, each once.
func (f Facts) Ports() []string {
	var all []string
	for _, s := range f.Here() {
		if !slices.Contains(all, s.Port) {
			all = append(all, s.Port)
		}
	}
	return all
}

// Loopback reports whether smtpseal and the server are one machine.
func (f Facts) Loopback() bool { return f.Servers[0].Loopback() }

// TakesLogins reports whether people hand in mail here, who log in.
func (f Facts) TakesLogins() bool {
	return slices.ContainsFunc(f.Listeners, func(l Listener) bool { return l.Mode != "starttls-optional" })
}

// TakesMX reports whether other servers deliver here, who do not log in.
func (f Facts) TakesMX() bool {
	return slices.ContainsFunc(f.Listeners, func(l Listener) bool { return l.Mode == "starttls-optional" })
}

// Takes25 reports whether smtpseal takes port 25 of the server's own machine.
func (f Facts) Takes25() bool {
	return f.Loopback() && slices.ContainsFunc(f.Listeners, func(l Listener) bool { return slices.Contains(l.Ports, "25") })
}

// Has25 reports whether the server is to listen on port 25.
func (f Facts) Has25() bool { return slices.Contains(f.Ports(), "25") }

// Name is the host name, or the one that documentation has.
func (f Facts) Name() string {
	if f.Hostname == "" {
		return "mail.example.org"
	}
	return f.Hostname
}

func (f Facts) config() string {
	if f.Config == "" {
		return "FILE"
	}
	return f.Config
}

// who are the listeners, as a sentence names them.
func (f Facts) who() string {
	var all []string
	for _, l := range f.Listeners {
		all = append(all, l.Name)
	}
	switch len(all) {
	case 0:
		return ""
	case 1:
		return "listener " + all[0]
	}
	return "listeners " + strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// FirstHost is the host for which the recipe is.
func (f Facts) FirstHost() string { return f.Servers[0].Host }

// SourceIPv6 reports whether smtpseal comes by IPv6.
func (f Facts) SourceIPv6() bool { return strings.Contains(f.Source, ":") }

// OwnPorts are the well-known ports that smtpseal takes of the server's own
// machine.
func (f Facts) OwnPorts() []string {
	var all []string
	for _, l := range f.Listeners {
		for _, port := range l.Ports {
			if f.Loopback() && wellKnown(port) && !slices.Contains(all, port) {
				all = append(all, port)
			}
		}
	}
	slices.Sort(all)
	return all
}

func wellKnown(port string) bool { return port == "25" || port == "465" || port == "587" }
