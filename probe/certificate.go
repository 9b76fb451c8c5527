package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// The certificate of the first handshake, one question at a time, so that an
// old certificate of the wrong name is two findings and no more.

func (e *endpoint) leaf() *x509.Certificate { return e.state.PeerCertificates[0] }

// chainTrusted leaves the time to the check of it: it asks as of a moment at
// which the leaf is valid.
func (e *endpoint) chainTrusted(context.Context) finding {
	sent := e.state.PeerCertificates
	leaf := e.leaf()
	now := time.Now()
	then := now
	if now.After(leaf.NotAfter) {
		then = leaf.NotAfter
	} else if now.Before(leaf.NotBefore) {
		then = leaf.NotBefore
	}
	options := x509.VerifyOptions{Roots: e.Roots, Intermediates: x509.NewCertPool(), CurrentTime: then}
	for _, c := range sent[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(options)
	if err == nil {
		e.chain = chains[0]
		e.named = e.covers() && then.Equal(now)
		return good("%d sent, up to %s", len(sent), printable(chains[0][len(chains[0])-1].Subject.String()))
	}
	issuer := printable(leaf.Issuer.String())
	switch outdated := outOfDate(err); {
	case outdated != nil && !then.Equal(now):
		return note("renew it first, then look again", "not judged: the certificate is out of date itself, and %s was not valid with it", printable(outdated.Subject.String()))
	case outdated != nil:
		return fail("serve the chain that belongs to the certificate, or have it issued anew", "%s, which has signed it, is valid from %s to %s only",
			printable(outdated.Subject.String()), outdated.NotBefore.UTC().Format(minute), outdated.NotAfter.UTC().Format(minute))
	case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		return fail("get one from a CA: smtpseal does that by itself", "self-signed by %s: no client has a reason to trust it", issuer)
	case len(sent) == 1:
		return fail("serve the whole chain (fullchain.pem); for a private CA: --ca FILE", "only the certificate itself was sent, and its issuer %s is not known: %s", issuer, printable(err.Error()))
	}
	return fail("serve the chain that belongs to the certificate; for a private CA: --ca FILE", "not trusted: %s", printable(err.Error()))
}

// outOfDate is the issuer that is the right one but for its time.
func outOfDate(err error) *x509.Certificate {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return invalid.Cert
	}
	return nil
}

const minute = "2006-01-02 15:04 MST"

func (e *endpoint) covers() bool { return e.leaf().VerifyHostname(e.name) == nil }

func (e *endpoint) names(context.Context) finding {
	leaf := e.leaf()
	has := strings.Join(leaf.DNSNames, ", ")
	for _, ip := range leaf.IPAddresses {
		has += " " + ip.String()
	}
	has = printable(strings.TrimSpace(has))
	switch {
	case e.covers():
		return good("%s", has)
	case net.ParseIP(e.name) != nil:
		return note("give the host's name, or --server-name NAME", "not checked: %s is no name; the certificate has %s", e.name, has)
	case has == "":
		return fail("get one with "+e.name+" as subject alternative name", "the certificate has no names; clients do not look at its common name")
	}
	return fail("get a certificate with "+e.name+", or let clients use a name that it has", "the certificate has %s, not %s: clients refuse it, or ask their users", has, e.name)
}

// Days left at which something is wrong: who renews by ACME does so with a third of the
// life left, and people with weeks. Short-lived certificates have shares.
func limits(life time.Duration) (worry, alarm time.Duration) {
	return min(21*24*time.Hour, life/5), min(3*24*time.Hour, life/20)
}

func (e *endpoint) expiry(context.Context) finding {
	leaf := e.leaf()
	left := time.Until(leaf.NotAfter)
	worry, alarm := limits(leaf.NotAfter.Sub(leaf.NotBefore))
	until := leaf.NotAfter.UTC().Format(minute)
	const remedy = "renew it, and see why that has not happened by itself: smtpseal certs list"
	switch {
	case left <= 0:
		return fail(remedy, "expired since %s: clients refuse it", until)
	case time.Until(leaf.NotBefore) > 0:
		return fail("set the clock of the server, or of the CA, or of this machine", "not valid before %s", leaf.NotBefore.UTC().Format(minute))
	case left < alarm:
		return fail(remedy, "%s left, until %s: renewal has failed", days(left), until)
	case left < worry:
		return warn(remedy, "%s left, until %s: it should have been renewed by now", days(left), until)
	}
	return good("%s left, until %s", days(left), until)
}

func days(d time.Duration) string {
	switch n := int(d / (24 * time.Hour)); n {
	case 0:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}
