package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// certificateWarnings are those about where certificates come from and where
// they are kept.
func (c *Config) certificateWarnings() []string {
	var all []string
	if c.ByACME() {
		all = append(all, c.acmeWarnings()...)
	}
	all = append(all, c.ACME.OnEvent.warnings()...)
	var literal, masked []string
	for _, s := range c.secrets() {
		if s.masked() {
			masked = append(masked, s.key)
		}
	}
	for _, s := range c.literalSecrets() {
		literal = append(literal, s.key)
	}
	if len(masked) > 0 {
		all = append(all, fmt.Sprintf("%s: masked, as smtpseal config prints secrets, so there is nothing to use. "+
			"Write the secret itself in place of the asterisks, or file:PATH or env:NAME", strings.Join(masked, ", ")))
	}
	if c.exposed {
		all = append(all, fmt.Sprintf("%s: a secret in a file that other users of this machine can read. "+
			"Let only its owner read it (chmod 600), or keep the secret elsewhere and write file:PATH or env:NAME", strings.Join(literal, ", ")))
	}
	return all
}

// secrets are all that may be masked, in the order of config.example.yaml.
func (c *Config) secrets() []Secret {
	all := []Secret{c.ACME.EAB.HMACKey}
	for _, key := range slices.Sorted(maps.Keys(c.ACME.DNS.Settings)) {
		all = append(all, c.ACME.DNS.Settings[key])
	}
	for _, d := range c.ACME.Fallback {
		all = append(all, d.EAB.HMACKey)
	}
	all = append(all, c.Storage.URL, c.Storage.EncryptionKey)
	return slices.DeleteFunc(all, func(s Secret) bool { return s.IsZero() || s.plain })
}

// literalSecrets are those that stand in the file itself.
func (c *Config) literalSecrets() []Secret {
	return slices.DeleteFunc(c.secrets(), func(s Secret) bool { return s.literal() == "" })
}

func (c *Config) acmeWarnings() []string {
	var all []string
	if c.ACME.Email == "" {
		all = append(all, "acme: no email, so a CA that has to revoke a certificate or close an account cannot tell anybody. Write acme.email")
	}
	if strings.Contains(c.ACME.Directory, "acme-staging") {
		all = append(all, fmt.Sprintf("acme: %s is for trying out, and no client trusts its certificates. Remove acme.directory when all works", c.ACME.Directory))
	}
	host := ""
	if u, err := url.Parse(c.ACME.Directory); err == nil {
		host = u.Hostname()
	}
	if !isPublicCA(host) {
		return all
	}
	for i, cert := range c.Certificates {
		for _, name := range cert.Names {
			if cert.ByACME() && !isPublicName(name) {
				all = append(all, fmt.Sprintf("certificates[%d]: %s is no name on the public Internet, and the CA at %s will refuse it. "+
					"Write internal: true beside it, or name your own CA as acme.directory", i, quote(name), host))
			}
		}
	}
	return all
}

// publicCAs are the owners of public directories, whose rules (the CA/Browser
// Forum's) are the same: no names that anybody may use at home.
var publicCAs = []string{".letsencrypt.org", ".zerossl.com", ".pki.goog", ".ssl.com", ".buypass.com", ".actalis.com"}

func isPublicCA(host string) bool {
	return slices.ContainsFunc(publicCAs, func(s string) bool { return strings.HasSuffix("."+strings.ToLower(host), s) })
}

// isPublicName knows the names that IANA has set aside, besides isPrivate's.
func isPublicName(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsGlobalUnicast() && !ip.IsPrivate()
	}
	dot := strings.LastIndex(name, ".")
	return dot > 0 && !isPrivate(name) && !slices.Contains([]string{"test", "invalid", "example", "onion"}, name[dot+1:])
}
