package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
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
}

// A Directory is one ACME CA.
type Directory struct {
	URL      string
	Roots    string // PEM file of the CAs that may have signed its own certificate; empty: the system's
	Profile  string
	EABKeyID string // with EABKey: the account at the CA that ours is bound to (RFC 8555 section 7.3.4)
	EABKey   string // base64url
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
	kinds   map[string]*issuance
}

func openACME(o Options, log *zap.Logger) (*acmeOrigin, error) {
	if o.Storage == nil {
		return nil, errors.New("acme: no storage")
	}
	a := &acmeOrigin{ACME: *o.ACME, storage: o.Storage, log: log.With(zap.String("source", "acme")),
		slots: make(chan struct{}, mostAttempts), kinds: map[string]*issuance{}}
	if len(a.Directories) == 0 {
		a.Directories = []Directory{{URL: LetsEncrypt}}
	}
	if a.AlertBefore <= 0 {
		a.AlertBefore = 14 * day
	}
	a.cache = newCache(a.log)
	a.answers = newConfig(a.cache, a.storage, keyTypes[0].generator, a.log)
	a.answers.Issuers = nil
	for _, d := range a.Directories {
		issuer, err := a.issuer(d)
		if err != nil {
			a.cache.Stop()
			return nil, fmt.Errorf("acme: directory %s: %w", d.URL, err)
		}
		a.issuers = append(a.issuers, issuer)
		a.answers.Issuers = append(a.answers.Issuers, &directory{issuer, keyTypes[0]})
	}
	return a, nil
}

// issuer makes one CA's. Every field is set that certmagic would take from its
// package variables.
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
		CertObtainTimeout:       attemptTimeout,
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
	if d.EABKeyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: d.EABKeyID, MACKey: d.EABKey}
	}
	return certmagic.NewACMEIssuer(a.answers, t), nil
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
		origin: "acme", kind: kind, storage: a.storage, poll: poll, alertBefore: a.AlertBefore, slots: a.slots,
		config: newConfig(a.cache, a.storage, kind.generator, a.log),
	}
	i.config.ReusePrivateKeys = !a.RotateKeys
	i.config.Issuers = nil
	for _, issuer := range a.issuers {
		i.config.Issuers = append(i.config.Issuers, &directory{issuer, kind})
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
	acme *certmagic.ACMEIssuer
	kind keyType
}

// IssuerKey is the folder of the certificates.
func (d *directory) IssuerKey() string { return d.kind.folder(d.acme.IssuerKey()) }

// Issue obtains a certificate.
func (d *directory) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	names := slices.Clone(csr.DNSNames)
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	err := d.acme.PreCheck(ctx, names, false)
	if err == nil {
		var issued *certmagic.IssuedCertificate
		if issued, err = d.acme.Issue(ctx, csr); err == nil {
			return issued, nil
		}
	}
	err = fmt.Errorf("%s: %w", caName(d.acme.CA), err)
	if r, ok := ctx.Value(refusalsKey{}).(*refusals); ok {
		r.all = append(r.all, err)
	}
	return nil, err
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
		if issuer != i.IssuerKey() && !strings.HasPrefix(issuer, i.IssuerKey()+"-") {
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
