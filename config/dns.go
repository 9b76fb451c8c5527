package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// dnsFields are the keys that every provider has.
var dnsFields = []field[DNS]{
	{name: "provider", read: readProvider},
	{name: "resolvers", read: readResolvers},
	{name: "propagation_timeout", read: readPropagationTimeout},
	{name: "propagation_delay", read: func(v value, d *DNS) { v.durationFrom(&d.PropagationDelay, 0, time.Hour) }},
	{name: "ttl", read: func(v value, d *DNS) { v.durationFrom(&d.TTL, time.Second, 24*time.Hour) }},
}

func defaultDNS() DNS {
	return DNS{PropagationTimeout: 2 * time.Minute, TTL: time.Minute}
}

// doNotLook is written -1s, or -1. It is for those who cannot see what
// the CA sees, where every look would be in vain; Caddy has the same.
const doNotLook = -time.Second

func readPropagationTimeout(v value, d *DNS) {
	if v.node.Kind == yaml.ScalarNode && v.node.Style&yaml.TaggedStyle == 0 && (v.node.Value == "-1" || v.node.Value == "-1s") {
		d.PropagationTimeout = doNotLook
		return
	}
	v.durationFrom(&d.PropagationTimeout, time.Second, time.Hour)
}

const noProvider = "is missing, and dns-01 needs somebody who publishes its records"

var providerRemedy = "write one of " + strings.Join(providerNames(), ", ")

// readDNS reads the keys of every provider and those of the one that is named.
// While nobody knows which one that is, nothing is said about the others.
func readDNS(v value, d *DNS) {
	p, known := findProvider(v.scalarAt("provider"))
	fields := dnsFields
	foreign := false
	if known {
		fields = slices.Concat(dnsFields[:1], p.fields(), dnsFields[1:])
	} else {
		v, foreign = v.withoutForeign(names(dnsFields))
	}
	s, ok := mapping(v, fields, d)
	switch {
	case !ok:
	case known:
		s.finishSettings(p, d)
	case foreign && d.Provider == "" && !s.broken("provider"):
		s.at("provider").wrong(noProvider, providerRemedy)
	}
}

// scalarAt looks ahead at one key of a mapping; whether it is written well is
// for who reads it.
func (v value) scalarAt(key string) string {
	if v.node.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if v.node.Content[i].Value == key {
			return v.node.Content[i+1].Value
		}
	}
	return ""
}

// withoutForeign is a mapping without the keys that look like none of known,
// and whether there were any.
func (v value) withoutForeign(known []string) (value, bool) {
	if v.node.Kind != yaml.MappingNode {
		return v, false
	}
	rest := *v.node
	rest.Content = nil
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		if nearest(v.node.Content[i].Value, known) != "" {
			rest.Content = append(rest.Content, v.node.Content[i], v.node.Content[i+1])
		}
	}
	return value{v.r, &rest, v.path}, len(rest.Content) < len(v.node.Content)
}

func readProvider(v value, d *DNS) {
	text, ok := v.text("a provider such as rfc2136")
	if !ok || text == "" {
		return
	}
	if _, known := findProvider(text); !known {
		remedy := providerRemedy + "; for any other, exec runs a program of yours and httpreq calls a web hook"
		if near := nearest(text, providerNames()); near != "" {
			remedy = "did you mean `" + near + "`?"
		}
		v.wrong(quote(text)+" is no provider", remedy)
	}
	d.Provider = text
}

func readResolvers(v value, d *DNS) {
	v.items(`write a list such as ["192.0.2.53"]`, func(item value) {
		text, ok := item.text(`an address such as "192.0.2.53" or "ns1.example.org:53"`)
		if !ok {
			return
		}
		server, ok := item.nameserver(text)
		switch {
		case !ok:
		case slices.Contains(d.Resolvers, server):
			item.wrong(quote(server)+" is written twice", "keep one of the two")
		default:
			d.Resolvers = append(d.Resolvers, server)
		}
	})
}

// nameserver reads host or host:port, and returns the latter.
func (v value) nameserver(text string) (string, bool) {
	host, port := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), "53"
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(text, ":") {
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			v.wrong(quote(text)+" is no address", `write host or host:port, such as "192.0.2.53" or "[2001:db8::53]:53"`)
			return "", false
		}
	}
	port, ok := v.port(port)
	if !ok {
		return "", false
	}
	host, ok = v.host(strings.TrimSuffix(host, "."), port, dial)
	return net.JoinHostPort(host, port), ok
}
