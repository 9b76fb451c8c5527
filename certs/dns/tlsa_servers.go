package dns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

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
