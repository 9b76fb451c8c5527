package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// maxPolicy is what RFC 8461 section 3.2 suggests.
const maxPolicy = 64 << 10

// mtaSTS asks for record and policy as another mail server does (RFC 8461), and
// holds host and certificate against it.
func (e *endpoint) mtaSTS(ctx context.Context) finding {
	switch {
	case e.mail.err != nil:
		return unasked(e.mail.err)
	case e.mail.name == "":
		return note("--domain NAME", "not checked: no domain is known whose mail comes to %s", e.name)
	}
	id, err := e.stsRecord(ctx)
	var bad *stsError
	switch {
	case errors.As(err, &bad):
		return fail("write one such record: v=STSv1; id=20260101", "%s", err)
	case err != nil:
		return unasked(err)
	case id == "":
		return note("", "%s has no MTA-STS record", printable(e.mail.name))
	}
	policy, err := e.stsPolicy(ctx)
	if err != nil {
		return fail("serve the policy there, with a certificate that is valid for the name and without redirects", "there is a record, but no policy that servers can use: %s", printable(err.Error()))
	}
	if policy.mode == "none" {
		return note("", "the policy is of mode none")
	}
	for _, host := range append([]string{e.name}, e.mail.mx...) {
		if !policy.covers(host) {
			return fail("add it to the policy, and change the record's id", "the policy of %s names %s, not %s: servers that follow it deliver nothing there", printable(e.mail.name), printable(strings.Join(policy.mx, ", ")), printable(host))
		}
	}
	if !e.named {
		return fail("mend the certificate", "the policy (%s) asks for a valid certificate of %s, and this is none: servers that follow it deliver nothing", policy.mode, e.name)
	}
	return good("policy of %s, mode %s, id %s", printable(e.mail.name), policy.mode, printable(id))
}

// An stsError is a mistake in the record.
type stsError struct{ string }

func (e *stsError) Error() string { return e.string }

// stsRecord returns the id, "" if there is no record.
func (e *endpoint) stsRecord(ctx context.Context) (id string, err error) {
	a, err := e.dns.ask(ctx, "_mta-sts."+e.mail.name, dns.TypeTXT)
	if err != nil {
		return "", err
	}
	var found []string
	for _, rr := range a.records {
		if text := strings.Join(rr.(*dns.TXT).Txt, ""); strings.HasPrefix(text, "v=STSv1") {
			found = append(found, text)
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	if len(found) > 1 {
		return "", &stsError{fmt.Sprintf("%d MTA-STS records, so servers take none", len(found))}
	}
	for field := range strings.SplitSeq(found[0], ";") {
		if key, value, _ := strings.Cut(strings.TrimSpace(field), "="); key == "id" && value != "" {
			return value, nil
		}
	}
	return "", &stsError{fmt.Sprintf("the MTA-STS record %q has no id", printable(found[0]))}
}

// An stsPolicy is what a sender needs of one.
type stsPolicy struct {
	mode string
	mx   []string
}

// covers: a pattern *.example.org stands for one label more (section 4.1).
func (p stsPolicy) covers(host string) bool {
	return slices.ContainsFunc(p.mx, func(pattern string) bool {
		pattern = lower(pattern)
		if above, ok := strings.CutPrefix(pattern, "*."); ok {
			_, rest, _ := strings.Cut(lower(host), ".")
			return rest == above
		}
		return lower(host) == pattern
	})
}

func (e *endpoint) stsPolicy(ctx context.Context) (stsPolicy, error) {
	r, err := http.NewRequest(http.MethodGet, "https://mta-sts."+e.mail.name+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return stsPolicy{}, err
	}
	body, err := e.fetch(ctx, r, maxPolicy)
	if err != nil {
		return stsPolicy{}, err
	}
	return parsePolicy(string(body))
}

func (p *prober) webTLS() *tls.Config { return &tls.Config{RootCAs: p.Roots} }

func parsePolicy(text string) (p stsPolicy, err error) {
	seen := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case key == "mx":
			p.mx = append(p.mx, value)
		case seen[key] == "": // of several the first counts
			seen[key] = value
		}
	}
	p.mode = seen["mode"]
	age, noAge := strconv.Atoi(seen["max_age"])
	switch {
	case seen["version"] != "STSv1":
		return p, errors.New("the policy lacks version: STSv1")
	case p.mode != "enforce" && p.mode != "testing" && p.mode != "none":
		return p, fmt.Errorf("the policy's mode is %q", p.mode)
	case noAge != nil || age < 0 || age > 31557600:
		return p, fmt.Errorf("the policy's max_age is %q", seen["max_age"])
	case p.mode != "none" && len(p.mx) == 0:
		return p, errors.New("the policy has no mx")
	}
	return p, nil
}
