package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxHops bounds a chain of CNAMEs. One is what people make, two happens where
// a hoster has its own in between; Let's Encrypt's resolver follows eleven.
const maxHops = 8

// maxAsked bounds how many servers of a zone are asked in turn where it leads.
const maxAsked = 4

// A place is where a record has to be written.
type place struct {
	name string // absolute
	zone string // absolute
}

// locate follows the CNAMEs that delegate a name, as a CA does (RFC 8555
// section 8.4 wants the TXT record there, not beside the CNAME), and finds the
// zone at the end. BIND accepts an update beside a CNAME and ignores it, so to
// write there would be to wait for nothing.
func (r *resolver) locate(ctx context.Context, name string) (place, error) {
	way := []string{dns.CanonicalName(name)}
	for {
		at := way[len(way)-1]
		zone, target, err := r.step(ctx, at)
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", path(way), err)
		}
		if target == "" {
			return place{at, zone}, nil
		}
		looped := slices.Contains(way, target)
		way = append(way, target)
		if looped {
			return place{}, fmt.Errorf("%s: these CNAMEs lead in a circle: mend one of them", path(way))
		}
		if len(way) > maxHops+1 {
			return place{}, fmt.Errorf("%s: more than %d CNAMEs: point %s at the last of them", path(way), maxHops, bare(way[0]))
		}
	}
}

// path is a chain for people.
func path(way []string) string {
	names := make([]string, len(way))
	for i, name := range way {
		names[i] = bare(name)
	}
	return strings.Join(names, " → ")
}

// step finds the zone of a name and where a CNAME there leads, if there is one.
//
// Only the zone of the name above is asked of resolvers. The name itself, which
// mostly does not exist yet, is asked at the zone's own servers where they can
// be reached: a resolver would remember "no such name" for as long as the zone
// says (often an hour) and could not see our record afterwards.
func (r *resolver) step(ctx context.Context, name string) (zone, target string, err error) {
	above := parent(name)
	if above == "." {
		above = name // a zone "." is nobody's
	}
	zone, own, err := r.zoneOf(ctx, above)
	if err != nil {
		return "", "", err
	}
	answer, err := r.askCNAME(ctx, zone, own, name)
	if err != nil {
		return "", "", err
	}
	if target := cnameOf(answer, name); target != "" {
		probe, err := r.askCNAME(ctx, zone, own, noSuchLabel+"."+above)
		if err == nil && cnameOf(probe, noSuchLabel+"."+above) == target {
			return zone, "", nil
		}
		return zone, target, nil
	}
	// The name itself may be a zone, be it on the same servers or delegated.
	if deeper := zoneIn(answer, name); len(deeper) > len(zone) {
		zone = deeper
	}
	return zone, "", nil
}

// noSuchLabel is one that nobody has. If it leads where the name does, that is
// the wildcard CNAME of a web site, *.example.org, and no delegation: it is out
// of the way as soon as our record is there (RFC 4592 section 2.2.1).
const noSuchLabel = "_smtpseal-no-such-name"

func cnameOf(answer *dns.Msg, name string) string {
	for _, record := range answer.Answer {
		if cname, ok := record.(*dns.CNAME); ok && strings.EqualFold(cname.Hdr.Name, name) {
			return dns.CanonicalName(cname.Target)
		}
	}
	return ""
}

// askCNAME asks the zone's own servers, and the resolvers if these are the zone's
// own or nobody else can be reached.
func (r *resolver) askCNAME(ctx context.Context, zone string, own bool, name string) (*dns.Msg, error) {
	if !own {
		if answer := r.askZone(ctx, zone, name); answer != nil {
			return answer, nil
		}
	}
	answer, err := r.lookup(ctx, name, dns.TypeCNAME)
	if err != nil {
		return nil, fmt.Errorf("look for a CNAME: %w", compact(err))
	}
	return answer, nil
}

// askZone asks a zone's own servers for a CNAME, or returns nil when none says
// anything.
func (r *resolver) askZone(ctx context.Context, zone, name string) *dns.Msg {
	servers, err := r.authorities(ctx, zone)
	if err != nil {
		return nil
	}
	for _, server := range servers[:min(len(servers), maxAsked)] {
		answer, err := r.dial.ask(ctx, server.addr, name, dns.TypeCNAME)
		if err != nil {
			continue
		}
		good := answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError
		if good && (answer.Authoritative || len(answer.Answer) == 0 && zoneIn(answer, name) != "") {
			return answer
		}
	}
	return nil
}
