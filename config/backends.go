package config

import (
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

var backendFields = []field[Backend]{
	{name: "preset", read: func(v value, b *Backend) { v.choose(&b.Preset, choices{words: presetNames()}) }},
	{name: "servers", read: readServers},
	{name: "balance", read: func(v value, b *Backend) {
		v.choose(&b.Balance, choices{words: []string{"first"}, later: []string{"round_robin", "least_sessions"},
			now: "write first: the servers are tried in the order of the list"})
	}},
	{name: "proxy_protocol", read: func(v value, b *Backend) { v.choose(&b.ProxyProtocol, proxyVersions) }},
	{name: "proxy_tlvs", read: func(v value, b *Backend) {
		v.chooseAll(&b.ProxyTLVs, choices{words: []string{"ssl", "authority", "unique_id", "alpn", "cn"}})
	}},
	{name: "xclient", read: readXCLIENT},
	{name: "tls", read: func(v value, _ *Backend) {
		var none string
		v.choose(&none, choices{words: []string{"none"}, later: []string{"starttls", "implicit"},
			now: "write none, and let only the path to the backend that nobody can listen to carry this hop: loopback, a unix socket or a private network"})
	}},
	{name: "hide_extensions", read: readHidden},
	{name: "health", read: func(v value, b *Backend) { mapping(v, healthFields, &b.Health) }},
	{name: "relay_check", read: func(v value, b *Backend) {
		v.choose(&b.RelayCheck, choices{words: []string{"warn", "refuse", "off"}})
	}},
}

// The least interval is what no mail server's log is filled by.
var healthFields = []field[Health]{
	{name: "interval", read: readInterval},
	{name: "timeout", read: func(v value, h *Health) { v.durationFrom(&h.Timeout, 100*time.Millisecond, 5*time.Minute) }},
	{name: "fall", read: func(v value, h *Health) { v.integer(&h.Fall, 1, 100) }},
	{name: "rise", read: func(v value, h *Health) { v.integer(&h.Rise, 1, 100) }},
}

// readInterval reads a time, or off.
func readInterval(v value, h *Health) {
	if v.node.Kind == yaml.ScalarNode && v.node.Value == "off" {
		h.Interval = 0
		return
	}
	v.durationFrom(&h.Interval, 100*time.Millisecond, time.Hour)
}

// newBackend is one with all defaults.
func newBackend(name string) Backend {
	return Backend{
		Name: name, Balance: "first", RelayCheck: "warn",
		Health: Health{Interval: 30 * time.Second, Timeout: 5 * time.Second, Fall: 3, Rise: 2},
	}
}

var proxyVersions = choices{words: []string{"off", "v1", "v2"}}

// readBackends reads the mapping from names to backends, in its order.
func readBackends(v value, d *document) {
	const remedy = "write a name, and below it preset and servers"
	all, ok := v.entries(remedy)
	if ok && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
	for _, e := range all {
		if !isBackendName(e.key.node.Value) || e.key.node.Tag != "!!str" {
			e.key.wrong("is no name for a backend", "write letters, digits, dots, hyphens and underscores, 64 at most; a number or the word true needs quotes")
		}
		readBackend(e, d)
	}
}

func isBackendName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, notInWord)
}

func readBackend(e entry, d *document) {
	b := newBackend(e.key.node.Value)
	s, ok := mapping(e.value, backendFields, &b)
	if ok {
		s.finishBackend(&b)
	}
	d.Backends = append(d.Backends, b)
	d.backends = append(d.backends, s)
}

// finishBackend fills in what the preset says, and checks what only makes
// sense together.
func (s section) finishBackend(b *Backend) {
	if !s.has("preset") && !s.has("proxy_protocol") {
		s.at("preset").wrong("is missing, and so is proxy_protocol",
			"write the kind of mail server, preset: "+alternatives(presetNames())+", or proxy_protocol: off, v1 or v2. "+
				"A mail server that cannot read a PROXY header takes no mail with one; one that trusts this machine is an open relay without one")
	}
	s.require("servers", `write where the mail server listens, such as ["127.0.0.1:10025"]`)
	known := findPreset(b.Preset)
	b.Preset = known.name
	if !s.has("proxy_protocol") {
		b.ProxyProtocol = known.proxyProtocol
	}
	switch {
	case b.ProxyProtocol == "v2" && !s.has("proxy_tlvs"):
		b.ProxyTLVs = defaultTLVs()
	case (b.ProxyProtocol == "v1" || b.ProxyProtocol == "off") && len(b.ProxyTLVs) > 0:
		s.at("proxy_tlvs").wrong("needs proxy_protocol v2, and here it is "+b.ProxyProtocol, "remove it, or write proxy_protocol: v2")
	}
	for _, keyword := range slices.Backward(known.hide) {
		b.HideExtensions = slices.DeleteFunc(b.HideExtensions, func(k string) bool { return k == keyword })
		b.HideExtensions = slices.Insert(b.HideExtensions, 0, keyword)
	}
}

func readServers(v value, b *Backend) {
	const remedy = `write a list such as ["127.0.0.1:10025"]`
	if v.items(remedy, func(item value) {
		address, ok := item.address("127.0.0.1:10025", dial)
		switch {
		case !ok:
		case slices.Contains(b.Servers, address):
			item.wrong(quote(address.String())+" is written twice", "keep one of the two")
		default:
			b.Servers = append(b.Servers, address)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
}

func readXCLIENT(v value, _ *Backend) {
	var on bool
	if v.flag(&on); on {
		v.later("true", "remove it, and let proxy_protocol tell the backend who the client is")
	}
}

// readHidden reads EHLO keywords (RFC 5321 section 4.1.1.1: a letter or digit,
// then letters, digits and hyphens), in capitals since they know no case.
func readHidden(v value, b *Backend) {
	v.items("write a list such as [ETRN]", func(item value) {
		text, ok := item.text("a keyword such as ETRN")
		if !ok {
			return
		}
		keyword := strings.ToUpper(text)
		if !isKeyword(keyword) {
			item.wrong(quote(text)+" is no EHLO keyword",
				"write one word of letters, digits and hyphens, such as ETRN; a * may stand at its end")
			return
		}
		if !slices.Contains(b.HideExtensions, keyword) {
			b.HideExtensions = append(b.HideExtensions, keyword)
		}
	})
}

func isKeyword(s string) bool {
	s = strings.TrimSuffix(s, "*")
	return s != "" && len(s) <= 64 && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	})
}
