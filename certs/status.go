package certs

import (
	"cmp"
	"crypto/x509"
	"strings"
	"time"
)

// A Certificate is what a status page shows of one certificate in use.
type Certificate struct {
	Names     []string          // empty: files that were never loaded
	Leaf      *x509.Certificate // nil: there is none yet
	Issuer    string            // the issuer's common name, or its whole subject
	Serial    string            // hexadecimal
	NotBefore time.Time
	NotAfter  time.Time
	Source    string // the path of the certificate file, "internal" or "acme"
	Name      string // what is asked for, of one that we obtain
	KeyType   string // … p256, p384, rsa2048 or rsa4096
	LastError string // why there is no newer one; empty: all is well
	Loads     int    // certificates taken into use since Open, the first included
	Rejected  int    // distinct contents that were looked at and not taken

	NextRenewal time.Time // of one that we obtain: when it is due
	LastTry     time.Time // when LastError was met last; zero: there is none, or it is not known
	NextTry     time.Time // … behind a failure; zero: at once
	Renewals    int       // … obtained or renewed by this process
	Failures    int       // … failed attempts of this process
	Problem     string    // why the Source is not as it should be; empty: this one is
	Remedy      string    // what to do about Problem, LastError or an end that is near
}

// Certificates returns a snapshot, in the order of the configuration.
func (s *Source) Certificates() []Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Certificate, 0, len(s.keepers))
	for _, k := range s.keepers {
		all = append(all, k.status())
	}
	return all
}

// Problems says in a line each why certificates are not as they should be:
// there is none yet, its files cannot be loaded, or it was not renewed and its
// end is near or past. It is what readiness follows.
func (s *Source) Problems() []string {
	var all []string
	for _, c := range s.Certificates() {
		if c.Problem != "" {
			all = append(all, cmp.Or(strings.Join(c.Names, ", "), c.Source)+": "+c.Problem)
		}
	}
	return all
}

// Names returns every name that is served, in the order of the configuration,
// none twice. Wildcards and IP addresses are among them.
func (s *Source) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return namesOf(s.keepers)
}

func namesOf(keepers []keeper) []string {
	var names []string
	seen := map[string]bool{}
	for _, k := range keepers {
		for _, name := range k.status().Names {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func describe(leaf *x509.Certificate) Certificate {
	issuer := leaf.Issuer.CommonName
	if issuer == "" {
		issuer = leaf.Issuer.String()
	}
	return Certificate{
		Leaf:      leaf,
		Names:     leafNames(leaf),
		Issuer:    issuer,
		Serial:    serialOf(leaf),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
	}
}

// serialOf has whole octets, as openssl has them.
func serialOf(leaf *x509.Certificate) string {
	text := leaf.SerialNumber.Text(16)
	if len(text)%2 == 1 {
		return "0" + text
	}
	return text
}

// leafNames returns what a certificate is for: its DNS names, else its common
// name, else its addresses.
func leafNames(leaf *x509.Certificate) []string {
	if names := dnsNames(leaf); len(names) > 0 {
		return names
	}
	var names []string
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// dnsNames returns the DNS names in lower case. The common name counts only
// where there are no alternative names (RFC 6125 section 6.4.4): clients that
// old are still among those who send mail. What is no DNS name is left out: a
// common name may be any text, and the first name is said in our greeting.
func dnsNames(leaf *x509.Certificate) []string {
	names := leaf.DNSNames
	if len(names) == 0 && len(leaf.IPAddresses) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	var good []string
	for _, name := range names {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); isDNSName(name) {
			good = append(good, name)
		}
	}
	return good
}
