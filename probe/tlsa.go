package probe

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

const tlsaRemedy = "publish what smtpseal certs tlsa prints, wait for the old record's TTL, and only then change the key (smtpseal certs roll does all that)"

// maxTLSA is how many records of a name are compared.
const maxTLSA = 32

// tlsa compares the records of this port (RFC 6698, 7672) with what was sent.
func (e *endpoint) tlsa(ctx context.Context) finding {
	if net.ParseIP(e.name) != nil {
		return note("give the host's name, or --server-name NAME", "not checked: %s is no name", e.name)
	}
	name := fmt.Sprintf("_%s._tcp.%s", e.port, e.name)
	a, err := e.dns.ask(ctx, name, dns.TypeTLSA)
	if err != nil {
		return unasked(err)
	}
	vouched := fmt.Sprintf("signed, says DNS server %s (AD)", e.dns.server)
	if !a.signed {
		vouched = fmt.Sprintf("not signed, or DNS server %s does not verify (no AD)", e.dns.server)
	}
	if len(a.records) == 0 {
		return note("", "%s has no records, so nobody does DANE with it; the answer is %s", name, vouched)
	}
	usable, matching := 0, ""
	for _, rr := range a.records[:min(len(a.records), maxTLSA)] {
		record := rr.(*dns.TLSA)
		if record.Usage != 2 && record.Usage != 3 { // RFC 7672 section 3.1.3
			continue
		}
		usable++
		if e.matches(record) {
			matching = fmt.Sprintf("%d %d %d", record.Usage, record.Selector, record.MatchingType)
		}
	}
	switch {
	case usable == 0:
		return warn(tlsaRemedy, "the records of %s are of usages that mail servers ignore (RFC 7672 section 3.1.3)", name)
	case matching == "":
		return fail(tlsaRemedy, "none of the %d records of %s is of this certificate, its key or its CA: servers that do DANE deliver no mail; the answer is %s", usable, name, vouched)
	case !a.signed:
		return warn("sign the zone, or ask a DNS server that verifies: --resolver ADDRESS", "a record of %s agrees (%s), but is %s: without signatures nobody believes it", name, matching, vouched)
	}
	return good("a record of %s agrees (%s); the answer is %s", name, matching, vouched)
}

// matches: usage 3 is about the leaf, 2 about what has signed it.
func (e *endpoint) matches(record *dns.TLSA) bool {
	candidates := e.state.PeerCertificates[:1]
	if record.Usage == 2 {
		candidates = append(e.state.PeerCertificates[1:len(e.state.PeerCertificates):len(e.state.PeerCertificates)], e.chain...)
	}
	for _, c := range candidates {
		if strings.EqualFold(association(c, record.Selector, record.MatchingType), record.Certificate) {
			return true
		}
	}
	return false
}

// association is the last field of a record, "" if we do not know how to make it.
func association(c *x509.Certificate, selector, matching uint8) string {
	content := c.Raw
	if selector == 1 {
		content = c.RawSubjectPublicKeyInfo
	}
	switch {
	case selector > 1:
		return ""
	case matching == 0:
		return hex.EncodeToString(content)
	case matching == 1:
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:])
	case matching == 2:
		sum := sha512.Sum512(content)
		return hex.EncodeToString(sum[:])
	}
	return ""
}
