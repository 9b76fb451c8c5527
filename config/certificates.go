package config

import (
	"net/netip"
	"strings"
)

var certificateFields = []field[Certificate]{
	{name: "names", read: readNames},
	{name: "cert_file", read: func(v value, c *Certificate) { v.filePath(&c.CertFile, "a PEM file such as /etc/tls/tls.crt") }},
	{name: "key_file", read: func(v value, c *Certificate) { v.filePath(&c.KeyFile, "a PEM file such as /etc/tls/tls.key") }},
	{name: "internal", read: func(v value, c *Certificate) { v.flag(&c.Internal) }},
}

func readCertificates(v value, d *document) {
	const remedy = "write a list of mappings with cert_file and key_file, or with names and internal: true"
	if v.items(remedy, func(item value) {
		var c Certificate
		if s, ok := mapping(item, certificateFields, &c); ok {
			s.checkCertificate(c)
			d.Certificates = append(d.Certificates, c)
			d.certificates = append(d.certificates, s)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
}

// checkCertificate makes sure that a certificate has one origin.
func (s section) checkCertificate(c Certificate) {
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
	case s.has("names") && !c.Internal && !s.broken("internal"):
		s.at("names").later("a certificate by ACME", "write cert_file and key_file, or internal: true for one that only our own clients trust")
	case !s.has("names"):
		s.wrong("says no certificate", "write cert_file and key_file, or names and internal: true")
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
