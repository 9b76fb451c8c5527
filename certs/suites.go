package certs

import (
	"crypto/tls"
	"slices"
	"strings"
)

// A named is a row of a table from the configuration's names to crypto/tls's
// numbers.
type named[T any] struct {
	name  string
	value T
}

var versions = []named[uint16]{
	{"1.0", tls.VersionTLS10}, {"1.1", tls.VersionTLS11}, {"1.2", tls.VersionTLS12}, {"1.3", tls.VersionTLS13},
}

var curves = []named[tls.CurveID]{
	{"X25519MLKEM768", tls.X25519MLKEM768},
	{"SecP256r1MLKEM768", tls.SecP256r1MLKEM768},
	{"SecP384r1MLKEM1024", tls.SecP384r1MLKEM1024},
	{"X25519", tls.X25519},
	{"P-256", tls.CurveP256},
	{"P-384", tls.CurveP384},
	{"P-521", tls.CurveP521},
}

// modernSuites have forward secrecy and authenticated encryption (RFC 9325
// section 4.2).
var modernSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// legacySuites are for printers and scanners. RSA key exchange among them needs
// an RSA certificate. Not here: the CBC suites with SHA-256, whose clients all
// know the ones with SHA-1 too and which crypto/tls does not protect against
// Lucky 13; 3DES (Sweet32), which cipher_suites can name; RC4, which it cannot.
var legacySuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// suites returns what cipher_suites may name: all that crypto/tls knows but
// RC4, and but TLS 1.3's, which cannot be chosen.
func suites() []named[uint16] {
	var all []named[uint16]
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) && !strings.Contains(s.Name, "_RC4_") {
			all = append(all, named[uint16]{s.Name, s.ID})
		}
	}
	return all
}

// choose returns the values of names, which key has in the configuration.
func choose[T any](key string, table []named[T], names ...string) (values []T, err error) {
	for _, name := range names {
		i := slices.IndexFunc(table, func(row named[T]) bool { return strings.EqualFold(row.name, name) })
		if i < 0 {
			return nil, unknown(key, name, keys(table))
		}
		values = append(values, table[i].value)
	}
	return values, nil
}

func keys[T any](table []named[T]) []string {
	var names []string
	for _, row := range table {
		names = append(names, row.name)
	}
	return names
}
