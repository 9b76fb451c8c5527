package certs

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// A TLSARecord tells other mail servers which key to expect of this one
// (DANE, RFC 6698 and RFC 7672). They believe it only in a zone signed by
// DNSSEC.
type TLSARecord struct {
	Name string // absolute: _25._tcp.mail.example.org.
	Data string // 3 1 1 and the hash in hexadecimal
}

// String is a line of a zone file, without a TTL: the zone's own applies.
func (r TLSARecord) String() string { return r.Name + " IN TLSA " + r.Data }

// TLSARecords returns the records of a key, which is a crypto.PublicKey or an
// *x509.Certificate, for every host and port: certificate usage 3 (this key,
// whatever CA has signed it), selector 1 (the key, which outlives
// certificates), matching type 1 (SHA-256), which RFC 7671 section 5.1 recommends.
//
// A wildcard or an IP address gets no record: the record stands below the name
// that a server is found by, which is an MX host's, and DNS has no wildcard in
// the middle of a name. What else is no DNS name gets none either.
func TLSARecords(hosts []string, ports []int, key crypto.PublicKey) []TLSARecord {
	data, err := TLSAData(key)
	if err != nil {
		return nil
	}
	return tlsaRecords(tlsaNames(hosts, ports), data)
}

// TLSAData is what a record of a key says, without the record's name.
func TLSAData(key crypto.PublicKey) (string, error) {
	var spki []byte
	if cert, ok := key.(*x509.Certificate); ok {
		// As it is: a CA may encode parameters otherwise than we would.
		spki = cert.RawSubjectPublicKeyInfo
	} else {
		var err error
		if spki, err = x509.MarshalPKIXPublicKey(key); err != nil {
			return "", fmt.Errorf("TLSA: %w", err)
		}
	}
	sum := sha256.Sum256(spki)
	return "3 1 1 " + hex.EncodeToString(sum[:]), nil
}

// tlsaNames are the names of the records of hosts and ports, none twice.
func tlsaNames(hosts []string, ports []int) []string {
	var names []string
	seen := map[string]bool{}
	for _, host := range hosts {
		host, ok := tlsaHost(host)
		if !ok {
			continue
		}
		for _, port := range ports {
			name := fmt.Sprintf("_%d._tcp.%s.", port, host)
			if port > 0 && port < 1<<16 && !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// tlsaHost spells a host as DNS has it, if it can have a record.
func tlsaHost(host string) (string, bool) {
	host, err := internalName(host)
	if err != nil || strings.HasPrefix(host, "*") {
		return "", false
	}
	_, err = netip.ParseAddr(host)
	return host, err != nil
}

func tlsaRecords(names []string, data ...string) []TLSARecord {
	var records []TLSARecord
	for _, name := range names {
		for _, d := range data {
			records = append(records, TLSARecord{name, d})
		}
	}
	return records
}
