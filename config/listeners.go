package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

var listenerFields = []field[Listener]{
	{name: "name", read: readListenerName},
	{name: "listen", read: func(v value, l *Listener) { l.Listen = v.addresses(":465") }},
	{name: "tls", read: func(v value, l *Listener) { v.choose(&l.Mode, modes) }},
	{name: "backend", read: func(v value, l *Listener) { l.Backend, _ = v.text("the name of one of backends") }},
	{name: "accept_proxy", read: readAcceptProxy},
	{name: "tls_policy", read: func(v value, l *Listener) {
		v.choose(&l.TLSPolicy, choices{words: policies.words, optional: true})
	}},
	{name: "client_auth", read: func(v value, l *Listener) {
		v.choose(&l.ClientAuth, choices{words: []string{"off", "request", "require"}})
	}},
	{name: "client_ca_file", read: func(v value, l *Listener) {
		l.ClientCAFile, _ = v.text("a PEM file such as /etc/smtpseal/clients.pem")
	}},
}

var modes = choices{words: []string{"implicit", "starttls", "starttls-optional"}}

// usualModes is what the clients of a port expect (RFC 8314 section 3, RFC
// 3207 section 4).
var usualModes = map[string]string{"465": "implicit", "587": "starttls", "25": "starttls-optional"}

func readListeners(v value, d *document) {
	const remedy = "write a list of mappings with listen, tls and backend"
	if v.items(remedy, func(item value) {
		l := Listener{ClientAuth: "off"}
		if s, ok := mapping(item, listenerFields, &l); ok {
			s.finishListener(&l)
			d.Listeners = append(d.Listeners, l)
			d.listeners = append(d.listeners, s)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
}

// finishListener fills in the name, and checks what only makes sense together.
func (s section) finishListener(l *Listener) {
	s.require("listen", `write an address such as ":465"`)
	s.require("tls", "write "+modeFor(l.Listen))
	if !s.has("name") && len(l.Listen) > 0 {
		l.Name = strings.TrimPrefix(l.Listen[0].String(), ":")
		if !isListenerName(l.Name) {
			s.at("name").wrong("is missing, and the address cannot stand in for it", "write a name such as submissions")
		}
	}
	if (l.ClientAuth == "request" || l.ClientAuth == "require") && l.ClientCAFile == "" && !s.broken("client_ca_file") {
		s.at("client_auth").wrong(l.ClientAuth+" needs client_ca_file", "write client_ca_file, the PEM file of the authorities that sign the clients' certificates, or client_auth: off")
	}
	if l.ClientAuth == "off" && l.ClientCAFile != "" && !s.broken("client_auth") {
		s.at("client_ca_file").wrong("has no effect while client_auth is off", "write client_auth: request or require, or remove client_ca_file")
	}
	s.checkAcceptProxy(l)
}

// modeFor names the modes, the usual one for the first address's port first.
func modeFor(listen []Address) string {
	if len(listen) > 0 && listen[0].Network == "tcp" {
		_, port, _ := net.SplitHostPort(listen[0].Addr)
		if mode, ok := usualModes[port]; ok {
			others := slices.DeleteFunc(slices.Clone(modes.words), func(m string) bool { return m == mode })
			return mode + ", which clients of port " + port + " expect, or " + alternatives(others)
		}
	}
	return "one of " + strings.Join(modes.words, ", ")
}

// checkAcceptProxy finds what would never match: each kind of address has its
// own way to say whom to trust.
func (s section) checkAcceptProxy(l *Listener) {
	has := func(network string) bool { // systemd's may be of any kind
		return slices.ContainsFunc(l.Listen, func(a Address) bool { return a.Network == network || a.Network == "systemd" })
	}
	if l.AcceptUnix && len(l.Listen) > 0 && !has("unix") {
		s.at("accept_proxy").wrong("has unix in it, but listen has no unix socket", "remove unix, or listen on unix:PATH")
	}
	if len(l.AcceptProxy) > 0 && len(l.Listen) > 0 && !has("tcp") {
		s.at("accept_proxy").wrong("has networks in it, but listen has only unix sockets", "write [unix], which trusts whoever may open the socket")
	}
}

func readListenerName(v value, l *Listener) {
	const example = "a name such as submissions"
	text, ok := v.text(example)
	if ok && !isListenerName(text) {
		v.wrong(quote(text)+" is no name", "write one word of at most 128 plain characters, such as submissions")
	}
	l.Name = text
}

// isListenerName bounds what goes into every log line and metric.
func isListenerName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func readAcceptProxy(v value, l *Listener) {
	v.items("write a list of networks such as [10.0.0.0/8], or [unix]", func(item value) {
		text, ok := item.text("a network such as 10.0.0.0/8, or unix")
		switch {
		case !ok:
		case text == "unix":
			l.AcceptUnix = true
		default:
			if p, ok := item.network(text); ok && !slices.Contains(l.AcceptProxy, p) {
				l.AcceptProxy = append(l.AcceptProxy, p)
			}
		}
	})
}

// network reads a CIDR block, or an address as the block of itself.
func (v value) network(text string) (netip.Prefix, bool) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		v.wrong(quote(text)+" is no network", "write an address or a block such as 10.0.0.0/8 or fd00::/8, or the word unix")
	case p.Addr().Is4In6():
		v.wrong(quote(text)+" is IPv4 in the guise of IPv6", "write it as IPv4, such as 10.0.0.0/8")
	case p != p.Masked():
		// One of the two numbers is a slip, and a network trusted by a slip
		// may claim any client address.
		v.wrong(quote(text)+" has bits set behind its first "+fmt.Sprint(p.Bits()),
			fmt.Sprintf("write %s for the network, or %s for the one address", p.Masked(), p.Addr()))
	default:
		return p, true
	}
	return netip.Prefix{}, false
}
