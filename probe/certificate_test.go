package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Whose certificate has expired is told so once: a CA that is younger than the
// certificate, or ended before it, is no unknown one.
func TestExpiryIsNotTakenForAnUnknownIssuer(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	type span struct{ from, to time.Duration } // from now
	for name, c := range map[string]struct {
		root, leaf    span
		chain, expiry Status
		says          string
	}{
		"good":                      {span{-9 * day, 900 * day}, span{-9 * day, 90 * day}, OK, OK, "1 sent"},
		"expired":                   {span{-99 * day, 900 * day}, span{-90 * day, -day}, OK, Fail, "1 sent"},
		"expired, of a younger CA":  {span{-time.Hour, 900 * day}, span{-90 * day, -day}, Note, Fail, "out of date itself"},
		"expired with its CA":       {span{-99 * day, -2 * day}, span{-90 * day, -day}, Note, Fail, "out of date itself"},
		"not valid yet, of an old":  {span{-99 * day, -2 * day}, span{day, 90 * day}, Note, Fail, "out of date itself"},
		"of a CA that has expired":  {span{-99 * day, -day}, span{-9 * day, 90 * day}, Fail, OK, "CN=root, which has signed it, is valid from"},
		"of a CA that is not valid": {span{day, 99 * day}, span{-9 * day, 90 * day}, Fail, OK, "CN=root, which has signed it, is valid from"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			sign := func(name string, lasts span, parent *x509.Certificate) *x509.Certificate {
				template := &x509.Certificate{
					SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
					NotBefore: time.Now().Add(lasts.from), NotAfter: time.Now().Add(lasts.to), IsCA: parent == nil, BasicConstraintsValid: true,
				}
				if parent == nil {
					parent = template
				}
				der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
				if err != nil {
					t.Fatal(err)
				}
				signed, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				return signed
			}
			root := sign("root", c.root, nil)
			e := &endpoint{prober: &prober{}, name: "mail.example.org", state: tls.ConnectionState{PeerCertificates: []*x509.Certificate{sign("mail.example.org", c.leaf, root)}}}
			e.Roots = x509.NewCertPool()
			e.Roots.AddCert(root)
			chain, expiry := e.chainTrusted(t.Context()), e.expiry(t.Context())
			if chain.status != c.chain || !strings.Contains(chain.detail, c.says) || expiry.status != c.expiry {
				t.Errorf("chain %+v, expiry %+v", chain, expiry)
			}
		})
	}
}
