package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"golang.org/x/crypto/ocsp"
)

const (
	// stapleTime bounds all of staple, storage included: a responder that
	// accepts and is silent must hold up nothing.
	stapleTime = 10 * time.Second

	// stapleMinLife: what lives shorter is expected to be replaced rather than
	// revoked, and CAs have no answers about it.
	stapleMinLife = 7 * day

	// stapleRetry is how soon a responder that failed is asked again.
	stapleRetry = time.Hour

	stapleBody = 64 << 10        // octets; real answers have 500 to 4,000
	stapleSkew = 5 * time.Minute // that a responder's clock may be ahead of ours
)

// A stapler gets the CA's word that a certificate is not revoked (OCSP,
// RFC 6960), for the handshake to carry along (RFC 6066 section 8), so that no
// client needs to ask the CA itself. It holds no state but its storage.
type stapler struct {
	client  *http.Client
	storage certmagic.Storage // nil: a staple is remembered by its certificate only
	log     *zap.Logger
}

func newStapler(storage certmagic.Storage, log *zap.Logger) *stapler {
	if log == nil {
		log = zap.NewNop()
	}
	// Staples are days apart: no connection is worth keeping.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: stapleBody}
	return &stapler{client: &http.Client{Transport: transport, Timeout: stapleTime}, storage: storage, log: log}
}

// staple returns a copy of the certificate with a staple, or the same one if
// that has nothing to change, and when to call again (zero: never). What it
// returns is good to serve in any case: an error says only that there is no
// newer staple. A revoked certificate is returned without one, since a client
// that is told "revoked" breaks off, and a mail that cannot be delivered is
// mostly worse than a key that somebody may have.
func (s *stapler) staple(ctx context.Context, cert *tls.Certificate) (_ *tls.Certificate, next time.Time, revoked bool, err error) {
	leaf, issuer, err := stapleChain(cert)
	if leaf == nil {
		return cert, time.Time{}, false, err
	}
	now := time.Now()
	if err != nil {
		return cert, now.Add(day), false, err
	}
	ctx, cancel := context.WithTimeout(ctx, stapleTime)
	defer cancel()
	p := proof{leaf: leaf, issuer: issuer}
	held, ok := s.remembered(ctx, p, cert.OCSPStaple, now)
	if !ok || !now.Before(held.half()) {
		var got word
		if got, err = s.ask(ctx, p, now); err == nil {
			held, ok = got, true
			s.remember(ctx, p, got)
		}
	}
	switch {
	case !ok:
		return withStaple(cert, nil), now.Add(stapleRetry), false, err
	case held.Status == ocsp.Revoked:
		s.log.Error("certificate is revoked by its CA: clients that ask refuse it", zap.Strings("names", leafNames(leaf)),
			zap.String("serial", serialOf(leaf)), zap.Time("revoked_at", held.RevokedAt),
			zap.String("remedy", "if its key may be known to others, get a certificate with a new key; else renew it"))
		return withStaple(cert, nil), held.next(now), true, err
	default:
		return withStaple(cert, held.Raw), held.next(now), false, err
	}
}

// stapleChain returns no leaf where there is nothing to staple.
func stapleChain(cert *tls.Certificate) (leaf, issuer *x509.Certificate, err error) {
	if len(cert.Certificate) == 0 {
		return nil, nil, nil
	}
	if leaf = cert.Leaf; leaf == nil {
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil, nil, fmt.Errorf("OCSP: leaf: %w", err)
		}
	}
	if responder(leaf) == "" || leaf.NotAfter.Sub(leaf.NotBefore) < stapleMinLife || time.Now().After(leaf.NotAfter) {
		return nil, nil, nil
	}
	if len(cert.Certificate) == 1 {
		return leaf, nil, errors.New("OCSP: the chain is the leaf alone: put its CA's certificate behind it")
	}
	if issuer, err = x509.ParseCertificate(cert.Certificate[1]); err != nil {
		return leaf, nil, fmt.Errorf("OCSP: issuer: %w", err)
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		return leaf, nil, fmt.Errorf("OCSP: the second certificate of the chain has not issued the first: put them in order: %w", err)
	}
	return leaf, issuer, nil
}

// responder is the first that is asked by HTTP; some CAs also name one in LDAP.
func responder(leaf *x509.Certificate) string {
	for _, url := range leaf.OCSPServer {
		if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
			return url
		}
	}
	return ""
}

// withStaple leaves the certificate that it is given alone: handshakes read it.
func withStaple(cert *tls.Certificate, staple []byte) *tls.Certificate {
	if bytes.Equal(cert.OCSPStaple, staple) {
		return cert
	}
	next := *cert
	next.OCSPStaple = staple
	return &next
}

// remembered is the best word that is still valid, of what the certificate
// carries and what any replica has put into the storage. What is not valid is
// as if it were not there; a new answer overwrites it.
func (s *stapler) remembered(ctx context.Context, p proof, carried []byte, now time.Time) (best word, ok bool) {
	answers := [][]byte{carried}
	if s.storage != nil {
		stored, err := s.storage.Load(ctx, p.file())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Debug("no OCSP answer from the storage", zap.Error(err))
		}
		answers = append(answers, stored)
	}
	for _, der := range answers {
		if len(der) == 0 {
			continue
		}
		if w, err := p.check(der, now); err == nil && (!ok || w.ThisUpdate.After(best.ThisUpdate)) {
			best, ok = w, true
		}
	}
	return best, ok
}

// remember keeps a revocation as well, so that a restart does not forget it
// while the responder is away.
func (s *stapler) remember(ctx context.Context, p proof, w word) {
	if s.storage == nil {
		return
	}
	if err := s.storage.Store(ctx, p.file(), w.Raw); err != nil {
		s.log.Warn("OCSP answer not kept: the responder will be asked again at the next start", zap.Error(err))
	}
}

// ask gets a new answer from the responder.
func (s *stapler) ask(ctx context.Context, p proof, now time.Time) (word, error) {
	question, err := ocsp.CreateRequest(p.leaf, p.issuer, nil)
	if err != nil {
		return word{}, fmt.Errorf("OCSP: request: %w", err)
	}
	url := responder(p.leaf)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return word{}, fmt.Errorf("OCSP: %w", err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("User-Agent", "smtpseal")
	resp, err := s.client.Do(req)
	if err != nil {
		return word{}, fmt.Errorf("OCSP: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return word{}, fmt.Errorf("OCSP: %s answers %s", url, resp.Status)
	}
	der, err := io.ReadAll(io.LimitReader(resp.Body, stapleBody+1))
	if err != nil {
		return word{}, fmt.Errorf("OCSP: %s: %w", url, err)
	}
	if len(der) > stapleBody {
		return word{}, fmt.Errorf("OCSP: %s answers with more than %d octets", url, stapleBody)
	}
	w, err := p.check(der, now)
	if err != nil {
		return word{}, fmt.Errorf("OCSP: %s: %w", url, err)
	}
	return w, nil
}

// A proof is a certificate that a word is wanted about, and who has to sign it.
type proof struct{ leaf, issuer *x509.Certificate }

// file is by the certificate's hash: serial numbers repeat among CAs.
func (p proof) file() string {
	sum := sha256.Sum256(p.leaf.Raw)
	return "ocsp/" + hex.EncodeToString(sum[:])
}

// A word is an answer that was checked, and its end.
type word struct {
	*ocsp.Response
	end time.Time
}

// check accepts what RFC 6960 section 3.2 does. Storage is checked as the wire
// is: others may write there.
func (p proof) check(der []byte, now time.Time) (word, error) {
	answer, err := ocsp.ParseResponseForCert(der, p.leaf, p.issuer)
	if err != nil {
		return word{}, err
	}
	w := word{Response: answer, end: answer.NextUpdate}
	if p.leaf.NotAfter.Before(w.end) {
		w.end = p.leaf.NotAfter
	}
	if signer := answer.Certificate; signer != nil && !signer.Equal(p.issuer) {
		// ParseResponse takes any certificate of the CA for a responder's: the
		// holder of a revoked one could sign that it is good.
		if !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return word{}, errors.New("signed by a certificate that is not for OCSP")
		}
		if now.Before(signer.NotBefore) || now.After(signer.NotAfter) {
			return word{}, errors.New("signed by a responder whose certificate is not valid now")
		}
		if signer.NotAfter.Before(w.end) {
			w.end = signer.NotAfter
		}
	}
	switch {
	case answer.Status != ocsp.Good && answer.Status != ocsp.Revoked:
		return word{}, errors.New("the responder does not know the certificate (yet)")
	case answer.ThisUpdate.After(now.Add(stapleSkew)):
		return word{}, fmt.Errorf("answer is valid from %s on: is the clock of this machine right?", date(answer.ThisUpdate))
	case answer.NextUpdate.IsZero():
		return word{}, errors.New("answer has no end, so it cannot be stapled")
	case !now.Before(w.end):
		return word{}, fmt.Errorf("answer has expired on %s: is the clock of this machine right?", date(w.end))
	}
	return w, nil
}

// half is when a newer word is asked for: there is as much time again for a
// responder to come back.
func (w word) half() time.Time { return w.ThisUpdate.Add(w.end.Sub(w.ThisUpdate) / 2) }

// next is when to look again, be it that the responder failed or that it gives
// out answers that are past their half already: in an hour then, or sooner if
// the word ends sooner, but not at once.
func (w word) next(now time.Time) time.Time {
	if half := w.half(); now.Before(half) {
		return half
	}
	return now.Add(max(min(stapleRetry, w.end.Sub(now)/2), time.Minute))
}
