package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Policy is what a listener demands of TLS. Its fields are the configuration's;
// the explicit ones replace the named policy's part.
type Policy struct {
	Name           string   // modern (1.3), intermediate (1.2+), legacy (1.0+); empty: intermediate
	MinVersion     string   // 1.0, 1.1, 1.2 or 1.3; empty: the policy's
	CipherSuites   []string // IANA names, for TLS up to 1.2; empty: the policy's
	Curves         []string // key exchanges; empty: all that Go offers, post-quantum first
	SessionTickets string   // per_process, shared or off; empty: per_process
	ClientAuth     string   // off, request or require; empty: off
	ClientCAFile   string   // PEM: who signs client certificates
	Listener       string   // its name, the same at every replica and reload; needed for shared tickets
}

// TLSConfig returns the configuration of one listener, which may be made anew at
// any time. Its session-ticket keys go by the listener's name and its policy, of
// this process or shared by replicas; without a name it has its own. Listeners
// must not share a configuration: a ticket from one without client certificates
// would open one that requires them (the class of CVE-2025-23419). A copy of a
// configuration does not get the keys that follow.
//
// A client that offers ALPN protocols must offer smtp; one that offers none,
// as all mail clients do, is served. No policy uses GODEBUG: explicit
// versions and suites do all that is needed.
func (s *Source) TLSConfig(p Policy) (*tls.Config, error) {
	c := &tls.Config{GetCertificate: s.getCertificate, NextProtos: []string{"smtp"}}
	for _, step := range []func(*tls.Config) error{p.versions, p.suites, p.curves, p.clients} {
		if err := step(c); err != nil {
			return nil, fmt.Errorf("tls policy: %w", err)
		}
	}
	if err := s.chooseTickets(p, c); err != nil {
		return nil, fmt.Errorf("tls policy: %w", err)
	}
	return c, nil
}

func (p Policy) versions(c *tls.Config) error {
	switch p.Name {
	case "modern":
		c.MinVersion = tls.VersionTLS13
	case "", "intermediate":
		c.MinVersion = tls.VersionTLS12
	case "legacy":
		c.MinVersion = tls.VersionTLS10
	default:
		return unknown("policy", p.Name, []string{"modern", "intermediate", "legacy"})
	}
	if p.MinVersion == "" {
		return nil
	}
	chosen, err := choose("min_version", versions, p.MinVersion)
	if err == nil {
		c.MinVersion = chosen[0]
	}
	return err
}

// suites chooses the suites of TLS 1.0 to 1.2. A minimum below 1.2 brings the
// legacy suites with it whatever the policy's name, since 1.0 and 1.1 can do
// nothing with the modern ones.
func (p Policy) suites(c *tls.Config) (err error) {
	if len(p.CipherSuites) == 0 {
		c.CipherSuites = modernSuites
		if p.Name == "legacy" || c.MinVersion < tls.VersionTLS12 {
			c.CipherSuites = slices.Concat(modernSuites, legacySuites)
		}
		return nil
	}
	if c.MinVersion == tls.VersionTLS13 {
		return errors.New("cipher_suites: have no effect with TLS 1.3 alone, whose suites cannot be chosen: remove them, or set min_version 1.2")
	}
	c.CipherSuites, err = choose("cipher_suites", suites(), p.CipherSuites...)
	return err
}

// curves limits the key exchanges. Their order has no meaning: since Go 1.24
// crypto/tls has its own.
func (p Policy) curves(c *tls.Config) (err error) {
	c.CurvePreferences, err = choose("curves", curves, p.Curves...)
	return err
}

func (s *Source) chooseTickets(p Policy, c *tls.Config) error {
	switch p.SessionTickets {
	case "", "per_process":
		return s.keepTickets(p, c)
	case "off":
		c.SessionTicketsDisabled = true
		return nil
	case "shared":
		return s.shareTickets(p, c)
	}
	return unknown("session_tickets", p.SessionTickets, []string{"per_process", "shared", "off"})
}

// keepTickets leaves a listener without a name to crypto/tls, which makes keys of
// its own for it.
func (s *Source) keepTickets(p Policy, c *tls.Config) error {
	if s.own == nil || p.Listener == "" {
		return nil
	}
	policy, err := p.fingerprint()
	if err == nil {
		s.own.attach(p.Listener, policy, c)
	}
	return err
}

func (s *Source) shareTickets(p Policy, c *tls.Config) error {
	policy, err := p.fingerprint()
	switch {
	case err != nil:
		return err
	case p.Listener == "":
		return errors.New("session_tickets shared: the listener has no name")
	case s.tickets != nil:
		s.tickets.attach(p.Listener, policy, c)
		return nil
	case s.log == nil: // a zero Source checks policies, and serves nobody
		return nil
	}
	return errors.New("session_tickets shared: there is no storage to share them through: configure one, or write per_process")
}

// fingerprint tells a policy from every other. Listeners of two policies open
// nothing of each other's, and neither do those with one policy whose file of
// CAs has changed: who was let in by an old one shows a certificate again.
func (p Policy) fingerprint() (string, error) {
	hash := sha256.New()
	if err := json.NewEncoder(hash).Encode(p); err != nil {
		return "", err
	}
	if p.ClientCAFile != "" {
		data, _, err := readFile(p.ClientCAFile)
		if err != nil {
			return "", fmt.Errorf("client_ca_file: %w", err)
		}
		hash.Write(data)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func (p Policy) clients(c *tls.Config) error {
	switch p.ClientAuth {
	case "", "off":
		return nil
	case "request":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return unknown("client_auth", p.ClientAuth, []string{"off", "request", "require"})
	}
	if p.ClientCAFile == "" {
		return fmt.Errorf("client_auth %s: no client_ca_file: name a PEM file of the CAs that sign client certificates", p.ClientAuth)
	}
	pool, err := loadPool(p.ClientCAFile)
	if err != nil {
		return fmt.Errorf("client_ca_file: %w", err)
	}
	c.ClientCAs = pool
	return nil
}

// loadPool reads CA certificates. One that cannot be parsed is an error, where
// AppendCertsFromPEM would leave it out in silence.
func loadPool(path string) (*x509.CertPool, error) {
	data, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	pool, count := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, count+1, err)
		}
		pool.AddCert(cert)
		count++
	}
	if count == 0 {
		return nil, fmt.Errorf("%s: no certificate in it: it must hold PEM blocks of type CERTIFICATE", path)
	}
	return pool, nil
}

func unknown(key, value string, good []string) error {
	return fmt.Errorf("%s: unknown %q: use %s", key, value, strings.Join(good, ", "))
}
