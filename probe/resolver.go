package probe

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"
)

// A resolver asks one DNS server, the user's or the system's first. It believes
// what that says of signatures, as every mail server that does DANE has to.
type resolver struct {
	server string // host:port; "" if the system has none that we find
	wait   func(context.Context) (context.Context, context.CancelFunc)
}

var errNoResolver = errors.New("no DNS server is known; name one: --resolver ADDRESS")

func newResolver(o Options) *resolver {
	server := withPort(o.Resolver)
	if server == "" {
		if system, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil && len(system.Servers) > 0 {
			server = net.JoinHostPort(system.Servers[0], system.Port)
		}
	}
	return &resolver{server, func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, o.Timeout)
	}}
}

func withPort(server string) string {
	if _, _, err := net.SplitHostPort(server); err != nil && server != "" {
		return net.JoinHostPort(server, "53")
	}
	return server
}

// addressResolver is for dialling; nil is the system's, /etc/hosts and all.
func addressResolver(server string) *net.Resolver {
	if server == "" {
		return nil
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, withPort(server))
	}}
}

// An answer is what a name has of one type, and whether the resolver has
// verified its signatures (the AD bit, RFC 6840 section 5.8).
type answer struct {
	records []dns.RR
	signed  bool
}

// ask returns no records and no error where there are none. By UDP it may be
// told that there is more than fits, and asks again by TCP.
func (r *resolver) ask(ctx context.Context, name string, kind uint16) (answer, error) {
	if r.server == "" {
		return answer{}, errNoResolver
	}
	ctx, cancel := r.wait(ctx)
	defer cancel()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	question.SetEdns0(1232, true)
	question.AuthenticatedData = true
	reply, _, err := (&dns.Client{Net: "udp", UDPSize: 1232}).ExchangeContext(ctx, question, r.server)
	if err == nil && reply.Truncated {
		reply, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, question, r.server)
	}
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("DNS server %s: %w", r.server, plain(err))
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return answer{}, fmt.Errorf("DNS server %s says %s to %s %s", r.server, dns.RcodeToString[reply.Rcode], dns.TypeToString[kind], name)
	}
	a := answer{signed: reply.AuthenticatedData}
	for _, rr := range reply.Answer {
		if rr.Header().Rrtype == kind {
			a.records = append(a.records, rr)
		}
	}
	return a, nil
}

// unasked is for a check whose answer is in DNS, and DNS does not say.
func unasked(err error) finding {
	if errors.Is(err, errNoResolver) {
		return note("--resolver ADDRESS", "not checked: %s", err)
	}
	return warn("ask again, and see the zone's servers: other mail servers hear the same, and wait", "could not be checked: %s", printable(err.Error()))
}
