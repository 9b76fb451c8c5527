package probe

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxMX is how many MX records of a domain are looked at.
const maxMX = 32

// A domain is the one whose mail a host takes, as far as DNS tells.
type domain struct {
	name string   // "" if none is known
	mx   []string // hosts, the preferred one first
	err  error    // why DNS does not tell
}

// host is where the mail of the domain goes, if that was what was named.
func (d domain) host(named string) string {
	if len(d.mx) > 0 && strings.EqualFold(named, d.name) && !slices.Contains(d.mx, lower(named)) {
		return d.mx[0]
	}
	return named
}

// mailDomain takes a name for the domain if it has MX records, else the name
// above it if one of that one's is the name.
func (p *prober) mailDomain(ctx context.Context, host string) domain {
	if p.Domain != "" {
		d := domain{name: p.Domain}
		d.mx, d.err = p.mxOf(ctx, p.Domain)
		return d
	}
	if p.ServerName != "" {
		host = p.ServerName
	}
	if net.ParseIP(host) != nil || !strings.Contains(strings.Trim(host, "."), ".") {
		return domain{}
	}
	own, err := p.mxOf(ctx, host)
	if err != nil || len(own) > 0 {
		return domain{name: host, mx: own, err: err}
	}
	_, above, _ := strings.Cut(host, ".")
	if !strings.Contains(above, ".") {
		return domain{}
	}
	if others, err := p.mxOf(ctx, above); err == nil && slices.Contains(others, lower(host)) {
		return domain{name: above, mx: others}
	}
	return domain{}
}

// mxOf returns the hosts of a domain. A null MX (RFC 7505) is none.
func (p *prober) mxOf(ctx context.Context, name string) (hosts []string, err error) {
	a, err := p.dns.ask(ctx, name, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	records := a.records[:min(len(a.records), maxMX)]
	slices.SortStableFunc(records, func(a, b dns.RR) int { return cmp.Compare(a.(*dns.MX).Preference, b.(*dns.MX).Preference) })
	for _, rr := range records {
		if host := lower(rr.(*dns.MX).Mx); host != "" {
			hosts = append(hosts, host)
		}
	}
	return hosts, nil
}

func lower(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// mx tells whether other servers come here at all.
func (e *endpoint) mx(context.Context) finding {
	switch {
	case e.mail.err != nil:
		return unasked(e.mail.err)
	case e.mail.name == "":
		return note("--domain NAME", "not checked: no domain is known whose mail comes to %s", e.name)
	case len(e.mail.mx) == 0:
		return note("add one if it is to get mail", "%s has no MX record", printable(e.mail.name))
	case !slices.Contains(e.mail.mx, lower(e.name)):
		return warn("add this host, or look at those", "the MX records of %s name %s, not %s", printable(e.mail.name), printable(strings.Join(e.mail.mx, ", ")), e.name)
	}
	return good("those of %s: %s", printable(e.mail.name), printable(strings.Join(e.mail.mx, ", ")))
}
