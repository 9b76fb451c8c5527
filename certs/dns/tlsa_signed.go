package dns

import (
	"context"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Signed reports whether a resolver has found the zone of a name to be signed
// (its AD bit, RFC 6840 section 5.8). Nobody believes TLSA records in a zone
// that is not (RFC 7672 section 2.2), but a resolver that does not validate says
// the same of every zone.
func (z *TLSA) Signed(ctx context.Context, fqdn string) (bool, error) {
	where, err := z.solver.locate(ctx, dns.CanonicalName(fqdn))
	if err != nil {
		return false, err
	}
	return z.signed(ctx, where.zone), nil
}

// signed asks for the SOA, which is there, so that no resolver remembers that
// records are not.
func (z *TLSA) signed(ctx context.Context, zone string) bool {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	question := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
	question.AuthenticatedData = true
	for _, server := range z.solver.resolver().servers {
		msg, err := z.solver.dial.soon(ctx, "udp", server, question)
		if err != nil || msg.Truncated {
			msg, err = z.solver.dial.soon(ctx, "tcp", server, question)
		}
		if err == nil && msg.AuthenticatedData {
			return true
		}
	}
	return false
}

func (z *TLSA) warnUnsigned(ctx context.Context, zone string) {
	z.mu.Lock()
	known := z.warned[zone]
	z.warned[zone] = true
	z.mu.Unlock()
	if known || z.signed(ctx, zone) {
		return
	}
	z.solver.options.Log.Warn("no resolver says that the zone is signed by DNSSEC: other mail servers ignore its TLSA records", zap.String("zone", bare(zone)),
		zap.String("do", "sign the zone; or if it is, name a validating resolver in acme.dns.resolvers to have this checked"))
}
