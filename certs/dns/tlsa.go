package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// A TLSA looks at and writes TLSA records (RFC 6698), those at the end of a
// CNAME included. Of the zone's servers it believes only what they say
// themselves and leaves out none: who decides on a key by what is in DNS has
// to know what every mail server may get to see.
type TLSA struct {
	solver *Solver

	mu     sync.Mutex
	warned map[string]bool // zones that were said not to be signed
}

// A TLSAAnswer is what one server says: records like "3 1 1 d2ab…", or why it
// said nothing.
type TLSAAnswer = struct {
	Records []string
	Err     error
}

// Bounds against a zone that would make us a flooder. What exceeds them is an
// error, since nothing may be left out.
const (
	maxTLSAServers   = 32
	maxTLSAAddresses = 8 // of each
)

// NewTLSA needs no provider: without one, records cannot be written. Resolvers
// find the zone's servers. One that is such a server itself is asked at the
// port that it is given with.
func NewTLSA(options Options) (*TLSA, error) {
	if options.Provider == nil {
		options.Provider = readOnly{}
	}
	solver, err := NewSolver(options)
	if err != nil {
		return nil, err
	}
	return &TLSA{solver: solver, warned: map[string]bool{}}, nil
}

// readOnly is the provider of those who have none.
type readOnly struct{}

func (readOnly) AppendRecords(context.Context, string, []libdns.Record) ([]libdns.Record, error) {
	return nil, errors.ErrUnsupported
}

func (readOnly) DeleteRecords(context.Context, string, []libdns.Record) ([]libdns.Record, error) {
	return nil, errors.ErrUnsupported
}

// TLSA asks every address of every server of the name's zone, all at once. The
// TTL is the largest of all answers, 0 where there are no records. A server
// that does not answer with authority has an error in its place; the error
// returned is about finding the servers.
func (z *TLSA) TLSA(ctx context.Context, fqdn string) (map[string]TLSAAnswer, time.Duration, error) {
	where, err := z.solver.locate(ctx, dns.CanonicalName(fqdn))
	if err != nil {
		return nil, 0, err
	}
	servers, answers, err := z.servers(ctx, where.zone)
	if err != nil {
		return nil, 0, err
	}
	z.warnUnsigned(ctx, where.zone)
	views := make([]view, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		views[i].server = server
		asking.Go(func() { z.view(ctx, where.name, &views[i]) })
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, 0, ctx.Err()
	}
	var ttl time.Duration
	for _, v := range views {
		if v.answer.Err != nil && v.noIPv6() && slices.ContainsFunc(views, v.elsewhere) {
			continue // it says nothing about the server, which was heard by IPv4
		}
		ttl = max(ttl, v.ttl)
		answers[v.server.String()] = v.answer
	}
	return answers, ttl, nil
}

// A view is what one address shows.
type view struct {
	server nameServer
	answer TLSAAnswer
	ttl    time.Duration
}

func (z *TLSA) view(ctx context.Context, name string, v *view) {
	msg, err := z.solver.dial.ask(ctx, v.server.addr, name, dns.TypeTLSA)
	switch {
	case err != nil:
		v.answer.Err = err
	case msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError:
		v.answer.Err = &rcodeError{v.server.addr, msg.Rcode}
	case !msg.Authoritative:
		v.answer.Err = errors.New("does not serve the zone: mend it, or the zone's NS records")
	default:
		v.answer.Records = []string{} // none is an answer, too
		for _, rr := range msg.Answer {
			if t, ok := rr.(*dns.TLSA); ok && strings.EqualFold(t.Hdr.Name, name) {
				v.answer.Records = append(v.answer.Records, fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.MatchingType, strings.ToLower(t.Certificate)))
				v.ttl = max(v.ttl, time.Duration(t.Hdr.Ttl)*time.Second)
			}
		}
	}
}

// noIPv6: this machine has no way to any IPv6 address.
func (v view) noIPv6() bool {
	host, _, _ := net.SplitHostPort(v.server.addr)
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is6() && (errors.Is(v.answer.Err, syscall.ENETUNREACH) || errors.Is(v.answer.Err, syscall.EADDRNOTAVAIL))
}

// elsewhere: the same server was heard at this other address.
func (v view) elsewhere(other view) bool {
	return other.server.name == v.server.name && other.answer.Err == nil
}

// servers are all addresses of all servers of a zone, and an answer for each
// server that has none.
func (z *TLSA) servers(ctx context.Context, zone string) ([]nameServer, map[string]TLSAAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	resolver := z.solver.resolver()
	msg, err := resolver.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, nil, fmt.Errorf("find the servers of zone %s: %w", bare(zone), compact(err))
	}
	names := serverNames(msg, zone)
	if len(names) == 0 || len(names) > maxTLSAServers {
		return nil, nil, fmt.Errorf("find the servers of zone %s: it has %d, and 1 to %d can be asked", bare(zone), len(names), maxTLSAServers)
	}
	found, failed := make([][]nameServer, len(names)), make([]error, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() { found[i], failed[i] = resolver.allAddresses(ctx, name) })
	}
	asking.Wait()
	var servers []nameServer
	answers := map[string]TLSAAnswer{}
	for i, name := range names {
		if failed[i] != nil {
			answers[bare(name)] = TLSAAnswer{Err: failed[i]}
		}
		servers = append(servers, found[i]...)
	}
	return z.ports(servers, resolver.servers), answers, nil
}

func serverNames(msg *dns.Msg, zone string) []string {
	var names []string
	for _, rr := range append(slices.Clone(msg.Answer), msg.Ns...) { // a referral has them in the latter
		ns, ok := rr.(*dns.NS)
		if ok && strings.EqualFold(ns.Hdr.Name, zone) && !slices.Contains(names, dns.CanonicalName(ns.Ns)) {
			names = append(names, dns.CanonicalName(ns.Ns))
		}
	}
	return names
}

// allAddresses differs from addresses: what cannot be found out is an error.
func (r *resolver) allAddresses(ctx context.Context, name string) ([]nameServer, error) {
	var servers []nameServer
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		msg, err := r.lookup(ctx, name, kind)
		if err != nil {
			return nil, fmt.Errorf("find its addresses: %w", compact(err))
		}
		for _, rr := range msg.Answer {
			var ip net.IP
			switch record := rr.(type) {
			case *dns.A:
				ip = record.A
			case *dns.AAAA:
				ip = record.AAAA
			}
			if ip != nil {
				servers = append(servers, nameServer{bare(name), net.JoinHostPort(ip.String(), "53")})
			}
		}
	}
	if len(servers) == 0 || len(servers) > maxTLSAAddresses {
		return nil, fmt.Errorf("it has %d addresses, and 1 to %d can be asked", len(servers), maxTLSAAddresses)
	}
	return servers, nil
}

// ports gives servers that we know by another port than 53 that port: NS
// records cannot say it, resolvers and the provider's server can.
func (z *TLSA) ports(servers []nameServer, known []string) []nameServer {
	if own, ok := z.solver.options.Provider.(interface{ ownServer() string }); ok {
		known = append(slices.Clone(known), own.ownServer())
	}
	for i, server := range servers {
		host, _, _ := net.SplitHostPort(server.addr)
		for _, addr := range known {
			if other, _, err := net.SplitHostPort(addr); err == nil && other == host {
				servers[i].addr = addr
				break
			}
		}
	}
	return servers
}

// Publish adds records, then removes others, and leaves alone what it is not
// told. The one does not happen when the other fails, so that a name is never
// left without records. errors.ErrUnsupported: there is no provider.
func (z *TLSA) Publish(ctx context.Context, fqdn string, add, remove []string, ttl time.Duration) error {
	provider := z.solver.options.Provider
	if _, ok := provider.(readOnly); ok {
		return errors.ErrUnsupported
	}
	where, err := z.solver.locate(ctx, dns.CanonicalName(fqdn))
	if err != nil {
		return err
	}
	if ttl <= 0 {
		ttl = z.solver.options.TTL
	}
	for _, change := range []struct {
		step string
		data []string
		do   func(context.Context, string, []libdns.Record) ([]libdns.Record, error)
	}{{"add", add, provider.AppendRecords}, {"remove", remove, provider.DeleteRecords}} {
		if len(change.data) == 0 {
			continue
		}
		if _, err := change.do(ctx, where.zone, tlsaRecords(where, change.data, ttl)); err != nil {
			return fmt.Errorf("%s TLSA records: %w", change.step, err)
		}
	}
	return nil
}

func tlsaRecords(where place, data []string, ttl time.Duration) []libdns.Record {
	var records []libdns.Record
	for _, d := range data {
		records = append(records, libdns.RR{Name: libdns.RelativeName(where.name, where.zone), TTL: ttl, Type: "TLSA", Data: d})
	}
	return records
}

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
