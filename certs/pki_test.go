package certs

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
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// A pki is a CA of the tests: independent of the internal CA under test.
type pki struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// A spec says what a certificate shall be. The zero value: ECDSA, valid from a
// minute ago for 90 days.
type spec struct {
	names    []string // DNS names and addresses
	cn       string
	from, to time.Duration // relative to now
	rsa      bool
	client   bool
	key      crypto.Signer // nil: a new one
}

var serials atomic.Int64

func newPKI(t testing.TB) *pki {
	t.Helper()
	key := newKey(t, false)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: "Test Root"},
		NotBefore: time.Now().Add(-1000 * day), NotAfter: time.Now().Add(1000 * day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &pki{t: t, cert: cert, key: key, pem: encode("CERTIFICATE", der)}
}

func (p *pki) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.cert)
	return pool
}

// issue returns a chain and its key in PEM.
func (p *pki) issue(s spec) (certPEM, keyPEM []byte) {
	p.t.Helper()
	if s.key == nil {
		s.key = newKey(p.t, s.rsa)
	}
	if s.from == 0 {
		s.from = -time.Minute
	}
	if s.to == 0 {
		s.to = 90 * day
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: s.cn},
		NotBefore: time.Now().Add(s.from), NotAfter: time.Now().Add(s.to),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if s.client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, name := range s.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, s.key.Public(), p.key)
	must(p.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(s.key)
	must(p.t, err)
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

func (p *pki) certificate(s spec) *tls.Certificate {
	p.t.Helper()
	cert, err := tls.X509KeyPair(p.issue(s))
	must(p.t, err)
	return &cert
}

// files writes a pair into a directory of its own.
func (p *pki) files(s spec) Pair {
	p.t.Helper()
	dir := p.t.TempDir()
	pair := Pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	p.write(pair, s)
	return pair
}

func (p *pki) write(pair Pair, s spec) {
	p.t.Helper()
	cert, key := p.issue(s)
	writeFile(p.t, pair.CertFile, cert)
	writeFile(p.t, pair.KeyFile, key)
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func newKey(t testing.TB, isRSA bool) crypto.Signer {
	t.Helper()
	if isRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		must(t, err)
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pairs are entries for pairs of files.
func pairs(all ...Pair) []Entry {
	var entries []Entry
	for _, p := range all {
		entries = append(entries, Entry{Pair: p})
	}
	return entries
}

// inside is an entry for the internal CA.
func inside(names ...string) []Entry { return []Entry{{Internal: true, Names: names}} }

func disk(path string) certmagic.Storage { return &certmagic.FileStorage{Path: path} }

func path(o Options) string { return o.Storage.(*certmagic.FileStorage).Path }

// bits is the size of a certificate's key.
func bits(c *x509.Certificate) int {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return key.Params().BitSize
	case *rsa.PublicKey:
		return key.Size() * 8
	}
	return 0
}
