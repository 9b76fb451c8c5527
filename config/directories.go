package config

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

const rootsExample = "a PEM file such as /etc/smtpseal/roots.pem"

var eabFields = []field[EAB]{
	{name: "key_id", read: func(v value, e *EAB) { e.KeyID, _ = v.text("the key identifier that the CA gave") }},
	{name: "hmac_key", read: readHMACKey},
}

var directoryFields = []field[Directory]{
	{name: "directory", read: func(v value, d *Directory) { d.URL, _ = v.directory(false) }},
	{name: "trusted_roots", read: func(v value, d *Directory) { d.TrustedRoots, _ = v.text(rootsExample) }},
	{name: "profile", read: func(v value, d *Directory) { v.profile(&d.Profile) }},
	{name: "eab", read: func(v value, d *Directory) { readEAB(v, &d.EAB) }},
}

// directory reads the URL where a CA's ACME begins.
func (v value) directory(optional bool) (string, bool) {
	text, ok := v.text("a URL such as " + letsEncrypt)
	if !ok || text == "" && optional {
		return "", ok
	}
	return text, v.checkWebURL(text, letsEncrypt)
}

// checkWebURL makes sure that a URL can be called and shown. Without TLS anybody
// on the way could answer for the other side and read what is sent to it, so
// plain HTTP is for hosts that are not on the way to anywhere. No mistake
// repeats a URL that has a password in it.
func (v value) checkWebURL(text, example string) bool {
	u, ok := v.webURL(text, example)
	if ok && u.Scheme == "http" && !isPrivate(u.Hostname()) {
		v.wrong("is without TLS, and "+quote(u.Hostname())+" is not in a private network", "write https://")
		ok = false
	}
	return ok
}

func (v value) webURL(text, example string) (*url.URL, bool) {
	remedy := "write one such as " + example
	u, err := url.Parse(text)
	switch {
	case err != nil:
		v.wrong("is no URL", remedy)
	case u.User != nil:
		v.wrong("has a user name in it, and would be shown with it", "remove what is before the @")
	case u.Scheme != "https" && u.Scheme != "http":
		v.wrong("does not begin with https://", remedy)
	case !isURLHost(u.Hostname()) || u.Port() == "0" || strings.HasSuffix(u.Host, ":"):
		v.wrong("has no host that could be called", remedy)
	case u.Fragment != "":
		v.wrong("has a #, which is never sent", "remove it and what follows")
	default:
		if port := u.Port(); port != "" {
			if _, err := netip.ParseAddrPort("0.0.0.0:" + port); err != nil {
				v.wrong(quote(port)+" is no port", "write a number from 1 to 65535")
				return nil, false
			}
		}
		return u, true
	}
	return nil, false
}

func isURLHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || isHostname(strings.TrimSuffix(host, "."))
}

// privateSuffixes are never in public DNS: RFC 6761, RFC 6762, RFC 8375 and
// ICANN's resolution of 2024 on .internal.
var privateSuffixes = []string{".localhost", ".local", ".home.arpa", ".internal"}

// isPrivate tells a host that is only reached within a network: certmagic has
// the same rule, and would refuse another one at run time.
func isPrivate(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return host == "localhost" || slices.ContainsFunc(privateSuffixes, func(s string) bool { return strings.HasSuffix(host, s) })
}

// profile reads a name that the CA has in its directory; only the CA knows which.
func (v value) profile(into *string) {
	text, ok := v.text("a profile such as shortlived")
	if ok && (len(text) > 64 || strings.ContainsFunc(text, notInWord)) {
		v.wrong(quote(text)+" is no profile", "write one word, such as shortlived")
	}
	*into = text
}

func readEAB(v value, e *EAB) {
	s, ok := mapping(v, eabFields, e)
	switch {
	case !ok || s.broken("key_id") || s.broken("hmac_key"):
	case e.KeyID != "" && e.HMACKey.IsZero():
		s.at("hmac_key").wrong("is missing", "write the key that the CA gave along with key_id, or remove both")
	case e.KeyID == "" && !e.HMACKey.IsZero():
		s.at("key_id").wrong("is missing", "write the identifier that the CA gave along with hmac_key, or remove both")
	}
}

func readHMACKey(v value, e *EAB) {
	if !v.secret(&e.HMACKey, "the key as the CA gave it", false) {
		return
	}
	text := e.HMACKey.literal()
	switch {
	case text == "" || isBase64(text, base64.RawURLEncoding):
	case isBase64(text, base64.URLEncoding):
		v.wrong("ends with =, which ACME does not have", "remove every = at the end")
	case isBase64(text, base64.StdEncoding) || isBase64(text, base64.RawStdEncoding):
		v.wrong("is base64, but not base64url", "write - for every +, _ for every /, and no = at the end")
	default:
		v.wrong("is no base64url", "write the key as the CA gave it: letters, digits, - and _")
	}
}

// readFallback reads a list of URLs, or of mappings for those that need more.
func readFallback(v value, a *ACME) {
	v.items("write a list of URLs, or of mappings with directory and trusted_roots, profile or eab", func(item value) {
		var d Directory
		if item.node.Kind != yaml.MappingNode {
			url, ok := item.directory(false)
			if ok {
				a.Fallback = append(a.Fallback, Directory{URL: url})
			}
			return
		}
		s, ok := mapping(item, directoryFields, &d)
		if ok {
			s.require("directory", "write a URL such as "+letsEncrypt)
			a.Fallback = append(a.Fallback, d)
		}
	})
}

// checkFallback: to ask a CA again that has just refused does not help.
func (s section) checkFallback(a *ACME) {
	seen := map[string]bool{a.Directory: true}
	for _, d := range a.Fallback {
		switch {
		case s.broken("fallback"):
		case d.URL == a.Directory:
			s.at("fallback").wrong("has the same directory as acme.directory", "remove it there, or write another CA's")
		case seen[d.URL]:
			s.at("fallback").wrong(quote(d.URL)+" is written twice", "keep one of the two")
		}
		seen[d.URL] = true
	}
}
