package faulty

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// An Authority is a CA with an intermediate one, which signs.
type Authority struct {
	root, between *x509.Certificate
	key           crypto.Signer // of the latter
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	rootKey, key := newKey(t, false), newKey(t, false)
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
	}
	root := template("faulty root")
	a := &Authority{key: key}
	a.root = sign(t, root, root, rootKey.Public(), rootKey)
	a.between = sign(t, template("faulty intermediate"), a.root, key.Public(), rootKey)
	return a
}

// Pool has the root.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// PEM is the root for a file.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Leaf signs a certificate, chain and all.
func (a *Authority) Leaf(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return a.leaf(t, newKey(t, false), change)
}

func (a *Authority) leaf(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{Name},
		NotBefore: time.Now().AddDate(0, 0, -20), NotAfter: time.Now().AddDate(0, 0, 70), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(template)
	leaf := sign(t, template, a.between, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.between.Raw}, PrivateKey: key, Leaf: leaf}
}

// Sign answers by OCSP for a leaf. What the template leaves out is good and fresh.
func (a *Authority) Sign(leaf *x509.Certificate, template ocsp.Response) ([]byte, error) {
	template.SerialNumber = leaf.SerialNumber
	if template.ThisUpdate.IsZero() {
		template.ThisUpdate, template.NextUpdate = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	return ocsp.CreateResponse(a.between, a.between, template, a.key)
}

func newKey(t testing.TB, isRSA bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if isRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
