package faulty

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// certificate is what the fault makes of it.
func (s *Server) certificate(t testing.TB) tls.Certificate {
	signer := s.Authority
	if s.Fault == UnknownIssuer {
		signer = NewAuthority(t)
	}
	key := newKey(t, s.Fault == RSAKeyExchange)
	now := time.Now()
	c := signer.leaf(t, key, func(template *x509.Certificate) {
		switch s.Fault {
		case Expired:
			template.NotBefore, template.NotAfter = now.AddDate(0, 0, -90), now.AddDate(0, 0, -1)
		case NotYet:
			template.NotBefore = now.AddDate(0, 0, 1)
		case FewDays:
			template.NotBefore, template.NotAfter = now.AddDate(0, 0, -88), now.AddDate(0, 0, 2)
		case FewWeeks:
			template.NotBefore, template.NotAfter = now.AddDate(0, 0, -80), now.AddDate(0, 0, 10)
		case WrongName:
			template.DNSNames = []string{"other.example.test"}
		}
		if s.OCSP != "" {
			template.OCSPServer = []string{s.OCSP}
		}
	})
	switch s.Fault {
	case Incomplete:
		c.Certificate = c.Certificate[:1]
	case SelfSigned:
		self := sign(t, c.Leaf, c.Leaf, key.Public(), key)
		c = tls.Certificate{Certificate: [][]byte{self.Raw}, PrivateKey: key, Leaf: self}
	}
	if s.OCSP == "" {
		c.OCSPStaple = s.staple(t, signer, c.Leaf)
	}
	return c
}

func (s *Server) staple(t testing.TB, signer *Authority, leaf *x509.Certificate) []byte {
	var answer ocsp.Response
	switch s.Fault {
	case SelfSigned:
		return nil
	case BadStaple:
		signer = NewAuthority(t)
	case OldStaple:
		answer.ThisUpdate, answer.NextUpdate = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	case Revoked:
		answer.Status, answer.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour)
	}
	der, err := signer.Sign(leaf, answer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (s *Server) config(t testing.TB) *tls.Config {
	c := &tls.Config{Certificates: []tls.Certificate{s.certificate(t)}, MinVersion: tls.VersionTLS12}
	suites := func(ids ...uint16) {
		for _, suite := range tls.CipherSuites() {
			c.CipherSuites = append(c.CipherSuites, suite.ID)
		}
		c.CipherSuites = append(c.CipherSuites, ids...)
	}
	switch s.Fault {
	case TLS10, TLS11:
		c.MinVersion = tls.VersionTLS10
	case NoTLS12:
		c.MinVersion = tls.VersionTLS13
	case NoTLS13:
		c.MaxVersion = tls.VersionTLS12
	case RSAKeyExchange:
		suites(tls.TLS_RSA_WITH_AES_128_GCM_SHA256)
	case RC4:
		suites(tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA)
	case OddCurves:
		c.CurvePreferences = []tls.CurveID{tls.CurveP521}
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return nil, s.refuse(hello) }
	if s.Fault == HTTPByALPN {
		c.NextProtos = []string{"smtp", "http/1.1"}
	}
	return c
}

// refuse has what a right server does not find in a tls.Config: who speaks ALPN
// must speak of mail. The old versions are told from each other here, too.
func (s *Server) refuse(hello *tls.ClientHelloInfo) error {
	newest := slices.Max(append(hello.SupportedVersions, 0))
	switch {
	case s.Fault == TLS10 && newest == tls.VersionTLS11, s.Fault == TLS11 && newest == tls.VersionTLS10:
		return errors.New("not this version")
	case s.Fault == BrokenTLS:
		return errors.New("broken")
	case s.Fault == HTTPByALPN, s.Fault == IgnoresALPN:
		return nil
	case len(hello.SupportedProtos) > 0 && !strings.Contains(strings.Join(hello.SupportedProtos, " "), "smtp"):
		return errors.New("not for mail")
	}
	return nil
}
