package storage

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpseal/test/redis"
)

// The server's certificate is verified against the roots of the system, which
// SSL_CERT_FILE names. It is read once a process, so trust takes another one.
func TestRedisByTLS(t *testing.T) {
	certFile, keyFile := selfSigned(t)
	server := redis.Start(t, redis.Config{CertFile: certFile, KeyFile: keyFile})
	o := Options{Type: "redis", URL: server.URL(), Prefix: "tls", Lease: testLease}
	if err := opener(o)(t).Store(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("from a server with a strange certificate: %v", err)
	} else {
		secretFree(t, err)
	}
	t.Setenv("SSL_CERT_FILE", certFile)
	place := t.TempDir()
	trusting := start(t, "race "+place, o)
	for line := range trusting.lines {
		t.Error(line)
	}
	if n := counted(place); n != raceRounds {
		t.Errorf("%d rounds", n)
	}
	o.URL = strings.Replace(o.URL, "rediss:", "redis:", 1)
	if err := opener(o)(t).Store(t.Context(), "a", nil); err == nil {
		t.Error("a server with TLS took a client without")
	}
}

func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return certFile, keyFile
}
