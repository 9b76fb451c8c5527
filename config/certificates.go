package config

import (
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

var certificateFields = []field[Certificate]{
	{name: "names", read: readNames},
	{name: "cert_file", read: func(v value, c *Certificate) { v.filePath(&c.CertFile, "a PEM file such as /etc/tls/tls.crt") }},
	{name: "key_file", read: func(v value, c *Certificate) { v.filePath(&c.KeyFile, "a PEM file such as /etc/tls/tls.key") }},
	{name: "internal", read: func(v value, c *Certificate) { v.flag(&c.Internal) }},
	{name: "key_types", read: readKeyTypes},
}

func readCertificates(v value, d *document) {
	const remedy = "write a list of mappings with names, or with cert_file and key_file"
	if v.items(remedy, func(item value) {
		var c Certificate
		if s, ok := mapping(item, certificateFields, &c); ok {
			s.finishCertificate(&c)
			d.Certificates = append(d.Certificates, c)
			d.certificates = append(d.certificates, s)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
}

// keyTypes are those that public CAs sign: Ed25519 is none of them.
var keyTypes = []string{"p256", "p384", "rsa2048", "rsa4096"}

func readKeyTypes(v value, c *Certificate) {
	v.chooseAll(&c.KeyTypes, choices{words: keyTypes})
	if v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
		v.wrong("is empty", "write a list such as [p256], or remove it")
	}
}

// finishCertificate makes sure that a certificate has one origin, and fills in
// the type of an ACME one's key.
func (s section) finishCertificate(c *Certificate) {
	s.checkOrigin(c)
	switch {
	case s.has("key_types") && (s.has("cert_file") || s.has("key_file")):
		s.at("key_types").wrong("has no effect beside files", "remove it: the key is the one in key_file")
	case s.has("key_types") && c.Internal:
		s.at("key_types").wrong("has no effect on a certificate of the internal CA", "remove it: its keys are all p256")
	case c.ByACME() && !s.has("key_types"):
		c.KeyTypes = []string{"p256"}
	case slices.Contains(c.KeyTypes, "rsa2048") && slices.Contains(c.KeyTypes, "rsa4096"):
		s.at("key_types").wrong("has two sizes of RSA, between which no client can choose", "keep one of the two")
	}
}

func (s section) checkOrigin(c *Certificate) {
	files := s.has("cert_file") || s.has("key_file")
	switch {
	case files && s.has("names"):
		s.at("names").wrong("has no effect beside files", "remove it: the names are those in the certificate")
	case files && c.Internal:
		s.at("internal").wrong("and files exclude each other", "remove internal, or write names in place of the files")
	case s.has("cert_file") && !s.has("key_file"):
		s.at("key_file").wrong("is missing", "write the PEM file of the certificate's private key; it may be the same file")
	case s.has("key_file") && !s.has("cert_file"):
		s.at("cert_file").wrong("is missing", "write the PEM file of the certificate and its chain")
	case files:
	case c.Internal && !s.has("names"):
		s.at("names").wrong("is missing", "write a list such as [mail.internal]")
	case !s.has("names"):
		s.wrong("says no certificate", "write names, or cert_file and key_file")
	}
}

func readNames(v value, c *Certificate) {
	const remedy = "write a list such as [mail.internal]"
	if v.items(remedy, func(item value) {
		text, ok := item.text("a name such as mail.internal")
		if !ok {
			return
		}
		if name, ok := item.certificateName(text); ok {
			c.Names = append(c.Names, name)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
}

// certificateName reads a host name, one with *. before it, or an IP address.
func (v value) certificateName(text string) (string, bool) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), true
	}
	name := strings.ToLower(text)
	if isHostname(strings.TrimPrefix(name, "*.")) {
		return name, true
	}
	v.wrong(quote(text)+" is no name for a certificate", nameRemedy(text))
	return "", false
}

func nameRemedy(text string) string {
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r > '~' }):
		return "write it as DNS has it, with xn-- in place of what is not ASCII"
	case strings.HasSuffix(text, "."):
		return "remove the dot at the end"
	case strings.Contains(text, "*"):
		return "write the * as the whole first label, as in *.example.org"
	}
	return "write a host name such as mail.example.org"
}
