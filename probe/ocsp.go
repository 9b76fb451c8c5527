package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// maxOCSP is more than any answer of a CA, and less than a flood.
const maxOCSP = 64 << 10

// mustStaple is the TLS feature extension (RFC 7633).
var mustStaple = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}

const stapleRemedy = "restart what staples, and see that it reaches the CA's OCSP server"

// ocsp looks at the staple. Without one it asks the CA, if the chain is one that
// was verified: only then is the address in the certificate a CA's word.
func (e *endpoint) ocsp(ctx context.Context) finding {
	leaf := e.leaf()
	issuer := e.issuer()
	if staple := e.state.OCSPResponse; len(staple) > 0 {
		if issuer == nil {
			return note("mend the chain first", "not checked: the issuer is not known")
		}
		answer, err := readOCSP(staple, leaf, issuer)
		if err != nil {
			return fail(stapleRemedy, "the staple is bad (%s): some clients refuse such a handshake", printable(err.Error()))
		}
		return judgeOCSP(answer, "by a staple")
	}
	must := slices.ContainsFunc(leaf.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(mustStaple) })
	switch {
	case must:
		return fail(stapleRemedy, "no staple, which the certificate demands (must-staple): clients refuse it")
	case len(leaf.OCSPServer) == 0:
		return good("the CA has no OCSP, so there is nothing to staple")
	case e.chain == nil:
		return note("mend the chain first", "not checked: no staple, and an issuer that is not trusted is not asked")
	}
	answer, err := e.askOCSP(ctx, leaf, issuer)
	if err != nil {
		return note("", "no staple, and the CA could not be asked: %s", printable(err.Error()))
	}
	return judgeOCSP(answer, "not stapled; the CA says so")
}

// issuer is the one that has signed the leaf.
func (e *endpoint) issuer() *x509.Certificate {
	for _, c := range append(slices.Clone(e.chain), e.state.PeerCertificates...) {
		if c != e.leaf() && bytes.Equal(c.RawSubject, e.leaf().RawIssuer) && e.leaf().CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func readOCSP(der []byte, leaf, issuer *x509.Certificate) (*ocsp.Response, error) {
	answer, err := ocsp.ParseResponseForCert(der, leaf, issuer)
	switch {
	case err != nil:
		return nil, err
	case time.Now().Before(answer.ThisUpdate.Add(-5 * time.Minute)): // clocks differ
		return nil, errors.New("it is from the future")
	case !answer.NextUpdate.IsZero() && time.Now().After(answer.NextUpdate):
		return nil, fmt.Errorf("it is out of date since %s", answer.NextUpdate.UTC().Format("2006-01-02 15:04 MST"))
	}
	return answer, nil
}

func judgeOCSP(answer *ocsp.Response, how string) finding {
	switch answer.Status {
	case ocsp.Good:
		return good("good, %s", how)
	case ocsp.Revoked:
		return fail("get a new one, with a new key: smtpseal certs renew", "revoked since %s", answer.RevokedAt.UTC().Format("2006-01-02"))
	}
	return warn("ask the CA", "the CA does not know it")
}

// askOCSP asks one server, once, and follows it nowhere.
func (e *endpoint) askOCSP(ctx context.Context, leaf, issuer *x509.Certificate) (*ocsp.Response, error) {
	server, err := url.Parse(leaf.OCSPServer[0])
	if err != nil || server.Scheme != "http" {
		return nil, errors.New("its address is no http URL")
	}
	question, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodPost, server.String(), bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	body, err := e.fetch(ctx, r, maxOCSP)
	if err != nil {
		return nil, err
	}
	return readOCSP(body, leaf, issuer)
}

// fetch is for the few things that are asked by HTTP: one answer of bounded
// size in bounded time, and no redirect.
func (p *prober) fetch(ctx context.Context, r *http.Request, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	transport := &http.Transport{DialContext: p.Dial, TLSClientConfig: p.webTLS(), DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err == nil && int64(len(body)) > most {
		err = fmt.Errorf("an answer of more than %d octets", most)
	}
	return body, err
}
