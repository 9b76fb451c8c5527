package pebble

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"
)

// An identity is the certificate of the HTTPS endpoint and the root above it.
type identity struct {
	root []byte // PEM
	leaf tls.Certificate
}

// An endpoint is one time of being up.
type endpoint struct {
	server *http.Server
	served chan error
}

var errClosed = errors.New("the CA is closed")

// Up listens again after Down, on the same port. It does nothing to a CA that
// is up.
func (c *CA) Up() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	if c.endpoint != nil {
		return nil
	}
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	e := &endpoint{
		served: make(chan error, 1),
		server: &http.Server{
			Handler:   c.handler,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{c.identity.leaf}},
			ErrorLog:  log.New(io.Discard, "", 0), // handshakes that a Down or a wrong root ends

			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       3 * time.Second, // as real CAs do, if later; clients do not
		},
	}
	go e.serve(listener)
	c.endpoint = e
	return nil
}

func (e *endpoint) serve(l net.Listener) { e.served <- e.server.ServeTLS(l, "", "") }

// Down refuses connections and cuts those that are open.
func (c *CA) Down() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoint == nil {
		return nil
	}
	e := c.endpoint
	c.endpoint = nil
	err := e.server.Close()
	if served := <-e.served; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}

// newIdentity makes a root and a certificate for the host of addr and for
// localhost.
func newIdentity(addr string) (*identity, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("Test endpoint root %x", serial)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: new(big.Int).Add(serial, big.NewInt(1)),
		NotBefore:    root.NotBefore,
		NotAfter:     root.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	return &identity{
		root: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}),
		leaf: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}, nil
}
