package certs

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// internalName returns a name as certmagic and clients spell it: an address in
// its shortest form, a DNS name in lower case and ASCII. The name becomes a
// path in the storage, so nothing else may be in it.
func internalName(name string) (string, error) {
	if addr, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return addr.Unmap().WithZone("").String(), nil
	}
	ascii, err := idna.ToASCII(strings.ToLower(strings.TrimSuffix(name, ".")))
	if err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	if !isDNSName(ascii) {
		return "", fmt.Errorf("name %q: write a DNS name like mail.example.org, a wildcard like *.example.org or an IP address", name)
	}
	return ascii, nil
}

// isDNSName reports whether a name in lower case is one, or a wildcard: the
// first label alone, and not the only one.
func isDNSName(name string) bool {
	labels := strings.Split(name, ".")
	if labels[0] == "*" && len(labels) > 1 {
		labels = labels[1:]
	}
	for _, label := range labels {
		if !isLabel(label) {
			return false
		}
	}
	return len(name) <= 253
}

// isLabel allows what RFC 1123 section 2.1 does, and the underscore, which
// internal networks use.
func isLabel(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}
