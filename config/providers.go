package config

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// A provider is what is known about a way to publish the records of dns-01.
type provider struct {
	name     string
	settings []setting
	together [][2]string // both or neither
}

// A setting is one of a provider's own keys.
type setting struct {
	name     string
	example  string
	required bool
	secret   bool
	initial  string              // the default, if any …
	with     string              // … and only beside this key, if any
	check    func(value, string) // of what is written as itself; nil: any text will do
	list     bool                // a program and its arguments, in DNS.Command
}

var providers = []provider{
	{name: "rfc2136", together: [][2]string{{"tsig_name", "tsig_secret"}}, settings: []setting{
		{name: "nameserver", required: true, example: "the primary server, such as ns1.example.org or 192.0.2.53:53", check: checkNameserver},
		{name: "tsig_name", example: "the name of the key, such as smtpseal", check: checkDomain},
		{name: "tsig_algorithm", initial: "hmac-sha256", with: "tsig_name", check: oneOf("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")},
		{name: "tsig_secret", secret: true, example: "the key in base64", check: checkBase64},
		{name: "zone", example: "a zone such as example.org", check: checkDomain},
	}},
	{name: "acmedns", settings: []setting{
		{name: "url", required: true, example: "the server's URL, such as https://auth.acme-dns.io", check: checkEndpoint},
		{name: "username", required: true, example: "the username that the registration gave"},
		{name: "password", required: true, secret: true, example: "the password that the registration gave"},
		{name: "subdomain", required: true, example: "the subdomain that the registration gave", check: checkDomain},
	}},
	{name: "cloudflare", settings: []setting{
		{name: "api_token", required: true, secret: true, example: "a token that may edit the zone's DNS"},
	}},
	{name: "route53", together: [][2]string{{"access_key_id", "secret_access_key"}}, settings: []setting{
		{name: "access_key_id", example: "an access key's identifier", check: checkWord},
		{name: "secret_access_key", secret: true, example: "an access key's secret"},
		{name: "session_token", secret: true, example: "a session token"},
		{name: "region", example: "a region such as eu-central-1", check: checkWord},
		{name: "hosted_zone_id", example: "a hosted zone's identifier, such as Z0123456789ABCDEFGHIJ", check: checkWord},
	}},
	{name: "digitalocean", settings: []setting{
		{name: "auth_token", required: true, secret: true, example: "a token that may write domains"},
	}},
	{name: "hetzner", settings: []setting{
		{name: "api_token", required: true, secret: true, example: "a token that may write"},
	}},
	{name: "ovh", settings: []setting{
		{name: "endpoint", required: true, example: "an endpoint such as ovh-eu, ovh-ca or ovh-us", check: checkOVH},
		{name: "application_key", required: true, secret: true, example: "the application's key"},
		{name: "application_secret", required: true, secret: true, example: "the application's secret"},
		{name: "consumer_key", required: true, secret: true, example: "the consumer key"},
	}},
	{name: "exec", settings: []setting{
		{name: "command", required: true, example: "a program such as /usr/local/bin/dns-hook, or a list of it and its arguments", list: true},
		{name: "timeout", initial: "1m", example: "a time such as 1m", check: checkTimeout},
	}},
	{name: "httpreq", together: [][2]string{{"username", "password"}}, settings: []setting{
		{name: "endpoint", required: true, example: "a URL such as https://dns.example.org/hook", check: checkEndpoint},
		{name: "username", example: "a user name for basic authentication"},
		{name: "password", secret: true, example: "a password for basic authentication"},
	}},
}

func providerNames() []string {
	var all []string
	for _, p := range providers {
		all = append(all, p.name)
	}
	return all
}

func findProvider(name string) (provider, bool) {
	i := slices.IndexFunc(providers, func(p provider) bool { return p.name == name })
	if i < 0 {
		return provider{}, false
	}
	return providers[i], true
}

// DNSProviders are the names that acme.dns.provider may have, and the keys of
// each: config and the package that has the providers must not import each
// other, so who knows both can compare them.
func DNSProviders() map[string][]string {
	all := make(map[string][]string)
	for _, p := range providers {
		for _, k := range p.settings {
			all[p.name] = append(all[p.name], k.name)
		}
	}
	return all
}

func (p provider) fields() []field[DNS] {
	var all []field[DNS]
	for _, k := range p.settings {
		all = append(all, field[DNS]{name: k.name, read: k.read})
	}
	return all
}

func (k setting) read(v value, d *DNS) {
	if k.list {
		v.command(&d.Command, k.example)
		return
	}
	var s Secret
	if !v.secret(&s, k.example, !k.secret) || s.IsZero() {
		return
	}
	if text := s.literal(); text != "" && k.check != nil {
		k.check(v, text)
	}
	d.set(k.name, s)
}

func (d *DNS) set(key string, s Secret) {
	if d.Settings == nil {
		d.Settings = make(map[string]Secret)
	}
	d.Settings[key] = s
}

func (d *DNS) given(k setting) bool {
	if k.list {
		return len(d.Command) > 0
	}
	return !d.Settings[k.name].IsZero()
}

// finishSettings fills in defaults, and checks what must be there.
func (s section) finishSettings(p provider, d *DNS) {
	for _, k := range p.settings {
		switch {
		case s.broken(k.name) || d.given(k):
		case k.required:
			s.at(k.name).wrong("is missing, and "+p.name+" needs it", "write "+k.example)
		case k.initial != "" && (k.with == "" || !d.Settings[k.with].IsZero()):
			d.set(k.name, newSecret(s.at(k.name).path, k.initial, true))
		}
	}
	for _, both := range p.together {
		for i, key := range both {
			other := both[1-i]
			if !d.Settings[key].IsZero() && d.Settings[other].IsZero() && !s.broken(other) {
				s.at(other).wrong("is missing, and "+key+" needs it", "write both, or neither")
			}
		}
	}
}

func checkNameserver(v value, text string) { v.nameserver(text) }

// checkDomain takes a name with or without the dot at its end.
func checkDomain(v value, text string) {
	if !isHostname(strings.TrimSuffix(text, ".") + ".x") {
		v.wrong(quote(text)+" is no name", "write letters, digits and hyphens, with dots between them")
	}
}

func checkWord(v value, text string) {
	if strings.ContainsFunc(text, notInWord) {
		v.wrong(quote(text)+" is no word", "write letters, digits, dots, hyphens and underscores")
	}
}

// checkEndpoint takes a URL to which paths are added, so nothing may follow.
func checkEndpoint(v value, text string) {
	if v.checkWebURL(text, "https://dns.example.org/hook") && strings.Contains(text, "?") {
		v.wrong("has a ? in it", "remove it and what follows: credentials have keys of their own")
	}
}

// ovhEndpoints are the names that OVH's own client knows for its URLs.
var ovhEndpoints = []string{"ovh-eu", "ovh-ca", "ovh-us", "kimsufi-eu", "kimsufi-ca", "soyoustart-eu", "soyoustart-ca"}

func checkOVH(v value, text string) {
	if strings.Contains(text, "://") {
		v.checkWebURL(text, "https://eu.api.ovh.com/1.0")
		return
	}
	oneOf(ovhEndpoints...)(v, text)
}

func oneOf(words ...string) func(value, string) {
	return func(v value, _ string) {
		var word string
		v.choose(&word, choices{words: words})
	}
}

func checkTimeout(v value, _ string) {
	var d time.Duration
	v.durationFrom(&d, time.Second, 10*time.Minute)
}

func checkBase64(v value, text string) {
	if !isBase64(text, base64.StdEncoding) {
		v.wrong("is no base64", "write the key as it is in the name server's configuration, such as tsig-keygen makes it")
	}
}
