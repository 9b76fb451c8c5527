package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Bounds of what a zone may make us ask: who runs a zone that we are pointed
// at (by a CNAME) must not make us a flooder of others.
const (
	maxNameServers = 13 // as many as the root has
	maxAddresses   = 4  // of each
)

// A resolver asks servers in the order given, which may be recursive ones or
// authoritative for what is asked.
type resolver struct {
	dial    dialFunc
	servers []string
	silent  sync.Map // servers that have not answered: asked last from then on, or each question would wait for them
}

// A rcodeError is a server's "no".
type rcodeError struct {
	server string
	rcode  int
}

func (e *rcodeError) Error() string { return e.server + " says " + dns.RcodeToString[e.rcode] }

// lookup is the first answer that says what there is, or that there is nothing.
func (r *resolver) lookup(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	var failed []error
	for _, server := range r.order() {
		answer, err := r.dial.ask(ctx, server, name, kind)
		if err != nil {
			r.silent.Store(server, true)
		}
		if err == nil && answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
			err = &rcodeError{server, answer.Rcode}
		}
		if err == nil {
			return answer, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

func (r *resolver) order() []string {
	var first, last []string
	for _, server := range r.servers {
		if _, silent := r.silent.Load(server); silent {
			last = append(last, server)
		} else {
			first = append(first, server)
		}
	}
	return append(first, last...)
}

// zoneOf finds the zone that a name is in, whether the name exists or not, and
// whether the answer came from one of the zone's own servers.
func (r *resolver) zoneOf(ctx context.Context, name string) (zone string, own bool, err error) {
	var first error
	for at := name; at != "."; at = parent(at) {
		answer, err := r.lookup(ctx, at, dns.TypeSOA)
		if err != nil {
			first = errors.Join(first, err)
			var no *rcodeError
			if ctx.Err() != nil || !errors.As(err, &no) {
				break // nobody there: the other names would be in vain
			}
			continue // an authoritative server refuses what it has not; a parent it may have
		}
		if zone := zoneIn(answer, at); zone != "" {
			return zone, answer.Authoritative, nil
		}
	}
	if first != nil {
		first = fmt.Errorf(": %w", compact(first))
		return "", false, fmt.Errorf("find the zone of %s%w: name servers that know it in acme.dns.resolvers", bare(name), first)
	}
	return "", false, fmt.Errorf("find the zone of %s: no server has one", bare(name))
}

// zoneIn is the zone that an answer to a question for SOA or CNAME names: the
// owner of the SOA, be it the answer or what goes along with "nothing there"
// (RFC 2308 section 3), or that of a referral. After a CNAME these belong to its
// target, and say nothing.
func zoneIn(answer *dns.Msg, name string) string {
	for _, record := range answer.Answer {
		if record.Header().Rrtype == dns.TypeCNAME || record.Header().Rrtype == dns.TypeDNAME {
			return ""
		}
	}
	zone := ""
	for _, record := range append(answer.Answer[:len(answer.Answer):len(answer.Answer)], answer.Ns...) {
		switch owner := dns.CanonicalName(record.Header().Name); record.Header().Rrtype {
		case dns.TypeSOA, dns.TypeNS:
			if owner != "." && dns.IsSubDomain(owner, name) && len(owner) > len(zone) {
				zone = owner
			}
		}
	}
	return zone
}

// A nameServer is one address of one of a zone's servers.
type nameServer struct {
	name string // for people
	addr string
}

func (s nameServer) String() string {
	if s.name == "" || s.name == s.addr {
		return s.addr
	}
	return s.name + " (" + s.addr + ")"
}

// authorities are all addresses of all servers of a zone. One whose name has no
// address is left out: the CA cannot ask it either.
func (r *resolver) authorities(ctx context.Context, zone string) ([]nameServer, error) {
	answer, err := r.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, fmt.Errorf("find the servers of zone %s: %w", bare(zone), compact(err))
	}
	var names []string
	for _, record := range append(answer.Answer[:len(answer.Answer):len(answer.Answer)], answer.Ns...) { // a referral has them in the latter
		if ns, ok := record.(*dns.NS); ok && len(names) < maxNameServers && strings.EqualFold(ns.Hdr.Name, zone) {
			names = append(names, dns.CanonicalName(ns.Ns))
		}
	}
	found := make([][]nameServer, len(names))
	var asking sync.WaitGroup
	for i, name := range names {
		asking.Go(func() { found[i] = r.addresses(ctx, name) })
	}
	asking.Wait()
	var servers []nameServer
	for _, some := range found {
		servers = append(servers, some...)
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("find the servers of zone %s: none has an address", bare(zone))
	}
	return servers, nil
}

func (r *resolver) addresses(ctx context.Context, name string) []nameServer {
	var servers []nameServer
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.lookup(ctx, name, kind)
		if err != nil {
			continue
		}
		for _, record := range answer.Answer {
			var ip net.IP
			switch address := record.(type) {
			case *dns.A:
				ip = address.A
			case *dns.AAAA:
				ip = address.AAAA
			}
			if ip != nil && len(servers) < maxAddresses {
				servers = append(servers, nameServer{bare(name), net.JoinHostPort(ip.String(), "53")})
			}
		}
	}
	return servers
}

// parent is the name without its first label.
func parent(name string) string {
	next, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[next:]
}

// bare is a name as people write it.
func bare(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// compact makes one line of joined errors, each cause once.
func compact(err error) error {
	var causes []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !slices.Contains(causes, line) {
			causes = append(causes, line)
		}
	}
	return errors.New(strings.Join(causes, "; "))
}
