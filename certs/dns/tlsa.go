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
