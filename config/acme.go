package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

var acmeFields = []field[ACME]{
	{name: "email", read: readEmail},
	{name: "directory", read: func(v value, a *ACME) {
		if text, ok := v.directory(true); ok && text != "" {
			a.Directory = text
		}
	}},
	{name: "trusted_roots", read: func(v value, a *ACME) { a.TrustedRoots, _ = v.text(rootsExample) }},
	{name: "profile", read: func(v value, a *ACME) { v.profile(&a.Profile) }},
	{name: "eab", read: func(v value, a *ACME) { readEAB(v, &a.EAB) }},
	{name: "challenges", read: readChallenges},
	{name: "http_listen", read: func(v value, a *ACME) { a.HTTPListen = v.addresses(":80") }},
	{name: "tls_alpn_listen", read: func(v value, a *ACME) { a.TLSALPNListen = v.addresses(":443") }},
	{name: "dns", read: func(v value, a *ACME) { readDNS(v, &a.DNS) }},
	{name: "fallback", read: readFallback},
	{name: "alert_days", read: func(v value, a *ACME) { v.integer(&a.AlertDays, 1, 90) }},
	{name: "reuse_keys", read: func(v value, a *ACME) { v.flag(&a.ReuseKeys) }},
	{name: "on_event", read: readHook},
}

var challenges = []string{"http-01", "tls-alpn-01", "dns-01"}

func defaultACME() ACME {
	return ACME{
		Directory:     letsEncrypt,
		Challenges:    []string{"http-01", "tls-alpn-01"},
		HTTPListen:    []Address{{"tcp", ":80"}},
		TLSALPNListen: []Address{{"tcp", ":443"}},
		DNS:           defaultDNS(),
		AlertDays:     14,
		ReuseKeys:     true,
	}
}

func readACME(v value, d *document) {
	s, ok := mapping(v, acmeFields, &d.ACME)
	if !ok {
		return
	}
	d.acme = s
	s.checkDNS01(&d.ACME)
	s.checkFallback(&d.ACME)
}

func readEmail(v value, a *ACME) {
	text, ok := v.text("an address such as postmaster@example.org")
	if ok && text != "" && !isEmail(text) {
		remedy := "write one such as postmaster@example.org, or remove it"
		if strings.HasPrefix(text, "mailto:") {
			remedy = "write the address alone, without mailto:"
		}
		v.wrong(quote(text)+" is no email address", remedy)
	}
	a.Email = text
}

// isEmail takes what a CA's contact may be (RFC 8555 section 7.3: one plain
// addr-spec). Quoted local parts are RFC 5321's, and no CA's.
func isEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && len(local) <= 64 && isHostname(domain) &&
		!strings.ContainsFunc(local, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),:;<>[\]`, r) })
}

func readChallenges(v value, a *ACME) {
	before := len(v.r.mistakes)
	var all []string
	v.chooseAll(&all, choices{words: challenges})
	switch {
	case len(v.r.mistakes) > before:
	case len(all) == 0:
		v.wrong("is empty", "write [http-01, tls-alpn-01], or [dns-01]")
	case len(all) > 1 && slices.Contains(all, "dns-01"):
		v.wrong("has dns-01 and others, of which only dns-01 would be used", "write [dns-01], or [http-01, tls-alpn-01]")
	}
	a.Challenges = all
}

// checkDNS01: the challenge and its provider come together.
func (s section) checkDNS01(a *ACME) {
	used := slices.Contains(a.Challenges, "dns-01")
	switch {
	case s.broken("challenges") || s.broken("dns"):
	case used && a.DNS.Provider == "":
		at := s.at("dns")
		at.path += ".provider"
		at.wrong(noProvider, providerRemedy)
	case !used && !reflect.DeepEqual(a.DNS, defaultDNS()):
		s.at("dns").wrong("has no effect without dns-01", "write challenges: [dns-01], or remove dns")
	}
}

// ByACME reports whether any certificate is obtained by ACME: only then is
// Config.ACME of any effect.
func (c *Config) ByACME() bool { return slices.ContainsFunc(c.Certificates, Certificate.ByACME) }

// challengesKnown is false after a mistake in them, from which nothing should
// be concluded.
func (d *document) challengesKnown() bool {
	return !d.root.broken("acme") || d.acme.node != nil && !d.acme.broken("challenges")
}

// checkACMENames finds names for which no challenge is there.
func (d *document) checkACMENames() {
	if !d.challengesKnown() {
		return
	}
	byDNS := slices.Contains(d.ACME.Challenges, "dns-01")
	for i, c := range d.Certificates {
		if !c.ByACME() || d.certificates[i].broken("internal") {
			continue
		}
		at := d.certificates[i].at("names")
		for _, name := range c.Names {
			_, err := netip.ParseAddr(name)
			switch {
			case err == nil && byDNS:
				at.wrong(quote(name)+" is an address, and dns-01 is for names alone (RFC 8738)",
					"remove it, or write acme.challenges: [http-01, tls-alpn-01]")
			case strings.HasPrefix(name, "*.") && !byDNS:
				at.wrong(quote(name)+" is a wildcard, which takes dns-01 (RFC 8555 section 8.4)",
					"write acme.challenges: [dns-01] and acme.dns, or the names themselves")
			}
		}
	}
}

// checkACMEAddresses finds addresses of the challenges that a listener has, or
// both challenges. An address that is a default is nowhere in the file, so the
// first certificate by ACME stands for it.
func (d *document) checkACMEAddresses(ours bound) {
	first := slices.IndexFunc(d.Certificates, Certificate.ByACME)
	if first < 0 || !d.challengesKnown() {
		return
	}
	for _, c := range []struct {
		challenge, key string
		listen         []Address
	}{
		{"http-01", "http_listen", d.ACME.HTTPListen},
		{"tls-alpn-01", "tls_alpn_listen", d.ACME.TLSALPNListen},
	} {
		if !slices.Contains(d.ACME.Challenges, c.challenge) {
			continue
		}
		written := d.acme.has(c.key)
		at := d.certificates[first].at("names")
		if written {
			at = d.acme.at(c.key)
		}
		for _, a := range c.listen {
			earlier, ok := ours.add(a, "acme."+c.key)
			switch {
			case ok:
			case written:
				at.wrong(quote(a.String())+" is taken by "+earlier, "write another port or host, or leave "+c.challenge+" out of acme.challenges")
			default:
				at.wrong("are by ACME, whose challenge "+c.challenge+" needs "+quote(a.String())+", and that is taken by "+earlier,
					"write another acme."+c.key+", or leave "+c.challenge+" out of acme.challenges")
			}
		}
	}
}
