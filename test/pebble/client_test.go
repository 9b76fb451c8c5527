package pebble_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"smtpseal/test/pebble"
)

// A client is a bare acmez client with one account and one kind of challenge.
type client struct {
	acmez.Client
	account acme.Account
}

func newClient(t *testing.T, ca *pebble.CA, solvers map[string]acmez.Solver) *client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Roots()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{
		Client: acmez.Client{
			Client: &acme.Client{
				Directory:    ca.DirectoryURL(),
				HTTPClient:   &http.Client{Transport: transport, Timeout: 20 * time.Second},
				PollInterval: 20 * time.Millisecond,
			},
			ChallengeSolvers: solvers,
		},
		account: acme.Account{TermsOfServiceAgreed: true, Contact: []string{"mailto:a@example.org"}, PrivateKey: newKey(t)},
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *client) register(ctx context.Context) (err error) {
	if c.account.Location == "" {
		c.account, err = c.NewAccount(ctx, c.account)
	}
	return err
}

// obtain makes an account if there is none yet, and gets a certificate.
func (c *client) obtain(t *testing.T, names ...string) (*x509.Certificate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.register(ctx); err != nil {
		return nil, err
	}
	chains, err := c.ObtainCertificateForSANs(ctx, c.account, newKey(t), names)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(chains[0].ChainPEM)
	return x509.ParseCertificate(block.Bytes)
}

func (c *client) mustObtain(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	cert, err := c.obtain(t, names...)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// An httpSolver answers HTTP-01 at addr as long as the test runs.
type httpSolver struct{ answers sync.Map }

func serveHTTP01(t *testing.T, addr string) map[string]acmez.Solver {
	t.Helper()
	s := &httpSolver{}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return map[string]acmez.Solver{acme.ChallengeTypeHTTP01: s}
}

func (s *httpSolver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if answer, ok := s.answers.Load(r.URL.Path); ok {
		w.Write([]byte(answer.(string)))
		return
	}
	http.NotFound(w, r)
}

func (s *httpSolver) Present(_ context.Context, c acme.Challenge) error {
	s.answers.Store(c.HTTP01ResourcePath(), c.KeyAuthorization)
	return nil
}

func (s *httpSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.answers.Delete(c.HTTP01ResourcePath())
	return nil
}

// A dnsSolver answers DNS-01 in the CA's own server, for names that are at
// the place which at says.
type dnsSolver struct {
	dns *pebble.DNS
	at  func(string) string
}

func (s dnsSolver) Present(_ context.Context, c acme.Challenge) error {
	s.dns.AddTXT(s.at(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization())
	return nil
}

func (s dnsSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.dns.RemoveTXT(s.at(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization())
	return nil
}

// A tlsSolver answers TLS-ALPN-01.
type tlsSolver struct{ answers sync.Map }

func serveTLSALPN01(t *testing.T, addr string) map[string]acmez.Solver {
	t.Helper()
	s := &tlsSolver{}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: &tls.Config{
		NextProtos: []string{acmez.ACMETLS1Protocol},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			answer, _ := s.answers.Load(hello.ServerName)
			cert, _ := answer.(*tls.Certificate)
			return cert, nil
		},
	}}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { server.Close(); <-ended })
	return map[string]acmez.Solver{acme.ChallengeTypeTLSALPN01: s}
}

func (s *tlsSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	s.answers.Store(c.Identifier.Value, cert)
	return err
}

func (s *tlsSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.answers.Delete(c.Identifier.Value)
	return nil
}
