package certs

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// ACME says how to have certificates by ACME (RFC 8555). To configure it is to
// agree to the CAs' terms.
type ACME struct {
	Email       string      // where a CA may write to; empty: none
	Directories []Directory // the CAs, tried in order at every order
	Challenges  []string    // of http-01, tls-alpn-01 and dns-01; dns-01 excludes the others

	// Where this machine answers challenges, as host:port. Nobody need listen
	// there: an attempt does so itself, as long as the port is free.
	HTTPListen, TLSALPNListen string

	DNS         acmez.Solver  // for dns-01
	AlertBefore time.Duration // of its end, a certificate that was not renewed is a problem; 0: 14 days
	RotateKeys  bool          // a new key at every renewal; TLSA records must then follow
	IgnoreARI   bool          // do not ask the CA when to renew (RFC 9773)

	Lifetime time.Duration // asked of the CA, for tests; 0: the CA's own

	timeout time.Duration // of an attempt at one CA; 0: attemptTimeout
}

// A Directory is one ACME CA.
type Directory struct {
	URL      string
	Roots    string // PEM file of the CAs that may have signed its own certificate; empty: the system's
	Profile  string
	EABKeyID string // with EABKey: the account at the CA that ours is bound to (RFC 8555 section 7.3.4)
	EABKey   string // base64url
}

// Format keeps the key out of logs.
func (d Directory) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "ACME directory %s", d.URL) }

// MarshalJSON keeps it out of those that go by reflection.
func (d Directory) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"URL": d.URL})
}

// LetsEncrypt is the directory of those who name none.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// An acmeOrigin is all that the ACME certificates share.
type acmeOrigin struct {
	ACME
	storage certmagic.Storage
	log     *zap.Logger
	cache   *certmagic.Cache
	answers *certmagic.Config // answers challenges, and owns the accounts
	issuers []*certmagic.ACMEIssuer
	slots   chan struct{}
	asking  chan struct{}
	kinds   map[string]*issuance
}

// originACME is the source of certificates by ACME in logs and on status pages.
const originACME = "acme"

// openACME is called once, before anybody reads the field.
func (s *Source) openACME() (err error) {
	if s.options.ACME != nil {
		s.acme, err = openACME(s.options, s.log)
	}
	return err
}

func openACME(o Options, log *zap.Logger) (*acmeOrigin, error) {
	if o.Storage == nil {
		return nil, errors.New("acme: no storage")
	}
	a := &acmeOrigin{ACME: *o.ACME, storage: o.Storage, log: log.With(zap.String("source", originACME)),
		slots: make(chan struct{}, mostAttempts), asking: make(chan struct{}, mostAttempts), kinds: map[string]*issuance{}}
	if len(a.Directories) == 0 {
		a.Directories = []Directory{{URL: LetsEncrypt}}
	}
	if a.AlertBefore <= 0 {
		a.AlertBefore = 14 * day
	}
	if a.timeout <= 0 {
		a.timeout = attemptTimeout
	}
	a.cache = newCache(a.log)
	a.answers = newConfig(a.cache, &tokenStorage{Storage: a.storage, log: a.log}, keyTypes[0].generator, a.log)
	a.answers.Issuers = nil
	for _, d := range a.Directories {
		issuer, err := a.issuer(d)
		if err != nil {
			a.cache.Stop()
			return nil, fmt.Errorf("acme: directory %s: %w", d.URL, err)
		}
		a.issuers = append(a.issuers, issuer)
		a.answers.Issuers = append(a.answers.Issuers, &directory{issuer, keyTypes[0], a.timeout})
	}
	return a, nil
}

// issuer makes one CA's. certmagic fills what is zero from its package variables,
// which anybody may have changed; so every field is set, some of them twice. What
// cannot be undone is DefaultACME.Resolver, which asks another resolver for the
// CA's own name.
func (a *acmeOrigin) issuer(d Directory) (*certmagic.ACMEIssuer, error) {
	t := certmagic.ACMEIssuer{
		CA: d.URL,
		// The same: or the default CA would get its staging CA for retries.
		TestCA:                  d.URL,
		Email:                   a.Email,
		Agreed:                  true,
		Profile:                 d.Profile,
		NotAfter:                a.Lifetime,
		DisableHTTPChallenge:    !slices.Contains(a.Challenges, acme.ChallengeTypeHTTP01),
		DisableTLSALPNChallenge: !slices.Contains(a.Challenges, acme.ChallengeTypeTLSALPN01),
		CertObtainTimeout:       a.timeout,
		HTTPProxy:               http.ProxyFromEnvironment,
		Logger:                  quiet(a.log),
	}
	if slices.Contains(a.Challenges, acme.ChallengeTypeDNS01) {
		if a.DNS == nil {
			return nil, errors.New("dns-01 without a DNS provider")
		}
		t.DNS01Solver = a.DNS
	} else if t.DisableHTTPChallenge && t.DisableTLSALPNChallenge {
		return nil, errors.New("no challenge: choose of http-01, tls-alpn-01, dns-01")
	}
	var err error
	if t.ListenHost, t.AltHTTPPort, err = hostPort(a.HTTPListen, ":80"); err != nil {
		return nil, err
	}
	if _, t.AltTLSALPNPort, err = hostPort(a.TLSALPNListen, ":443"); err != nil {
		return nil, err
	}
	if d.Roots != "" {
		if t.TrustedRoots, err = loadPool(d.Roots); err != nil {
			return nil, fmt.Errorf("trusted_roots: %w", err)
		}
	}
	if t.TrustedRoots == nil {
		t.TrustedRoots, _ = x509.SystemCertPool() // without any no CA is trusted, and that is said then
	}
	if d.EABKeyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: d.EABKeyID, MACKey: d.EABKey}
	}
	i := certmagic.NewACMEIssuer(a.answers, t)
	i.Email, i.AccountKeyPEM, i.ExternalAccount, i.DNS01Solver = t.Email, "", t.ExternalAccount, t.DNS01Solver
	i.NotBefore, i.NotAfter, i.NewAccountFunc = 0, t.NotAfter, nil
	i.DisableHTTPChallenge, i.DisableTLSALPNChallenge, i.ListenHost = t.DisableHTTPChallenge, t.DisableTLSALPNChallenge, t.ListenHost
	if a.Email == "" {
		return i, nil // else it would take any address that it has ever seen
	}
	return i, i.PreCheck(context.Background(), nil, false) // takes the address, once and for all
}

func hostPort(address, fallback string) (host string, port int, err error) {
	if address == "" {
		address = fallback
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}

// issuance returns the one for a type of key.
func (a *acmeOrigin) issuance(kind keyType, poll time.Duration) *issuance {
	if i := a.kinds[kind.name]; i != nil {
		return i
	}
	i := &issuance{
		origin: originACME, kind: kind, storage: a.storage, poll: poll, alertBefore: a.AlertBefore,
		slots: a.slots, asking: a.asking, limit: time.Duration(len(a.issuers)) * a.timeout,
		config: newConfig(a.cache, a.storage, kind.generator, a.log),
	}
	i.config.ReusePrivateKeys = !a.RotateKeys
	i.config.Issuers = nil
	for _, issuer := range a.issuers {
		i.config.Issuers = append(i.config.Issuers, &directory{issuer, kind, a.timeout})
	}
	if !a.IgnoreARI {
		i.advice = a.askCA
	}
	a.kinds[kind.name] = i
	return i
}

// A directory is a CA as certmagic's Config sees it: it never asks a person on
// standard input, keeps each type of key in a folder of its own, and gathers
// what its CA says.
type directory struct {
	acme    *certmagic.ACMEIssuer
	kind    keyType
	timeout time.Duration
}

// IssuerKey is the folder of the certificates.
func (d *directory) IssuerKey() string { return d.kind.folder(d.acme.IssuerKey()) }

// Issue obtains a certificate.
func (d *directory) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	said, ok := ctx.Value(saidKey{}).(*said)
	if !ok {
		_, said = collect(ctx)
	}
	var heard watch
	once := *d.acme // of which the logger is this attempt's own
	once.Logger = heard.listen(d.acme.Logger)
	err := public(ctx, &once, csr)
	if err == nil {
		var issued *certmagic.IssuedCertificate
		if issued, err = once.Issue(ctx, csr); err == nil {
			said.issuer, said.challenge = d.IssuerKey(), heard.tried()
			return issued, nil
		}
	}
	err = fmt.Errorf("%s: %w", caName(d.acme.CA), plain(err, namesIn(csr)[0], heard.tried()))
	said.refuse(err, heard.wait())
	return nil, err
}

// namesIn never returns nothing: what we order is for one name.
func namesIn(csr *x509.CertificateRequest) []string {
	names := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	return append(names, "")
}

// public refuses names that no public CA signs, without asking one.
func public(ctx context.Context, ca *certmagic.ACMEIssuer, csr *x509.CertificateRequest) error {
	if ca.Email == "" {
		return nil // the check would look for an address, also in other accounts
	}
	return ca.PreCheck(ctx, namesIn(csr), false)
}

// caName is how a log names a CA.
func caName(directory string) string {
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		return u.Host
	}
	return directory
}

// askCA asks the CA that issued a certificate when to renew it.
func (a *acmeOrigin) askCA(ctx context.Context, issuer string, c certmagic.Certificate) (window, error) {
	for _, i := range a.issuers {
		if !slices.ContainsFunc(keyTypes, func(k keyType) bool { return k.folder(i.IssuerKey()) == issuer }) {
			continue
		}
		info, err := i.GetRenewalInfo(ctx, c)
		if err != nil {
			return window{}, err
		}
		return windowOf(info), nil
	}
	return window{}, errNoAdvice
}

func (a *acmeOrigin) close() { a.cache.Stop() }
