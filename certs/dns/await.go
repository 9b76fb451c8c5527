package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// patience is how many looks in a row a server may leave unanswered before the
// others' word is enough. The CA will not hear it either.
const patience = 3

// Await returns when a record that Add has written can be seen by all who may
// be asked for it and answer: the resolvers, if some are set, and the zone's own
// servers, unless the resolvers are these.
//
// The zone's servers come first in any case where they can be reached: a
// resolver that is asked too early remembers that there was nothing.
func (s *Solver) Await(ctx context.Context, name, kind, data string) error {
	rec := record{dns.CanonicalName(name), kind, data}
	s.mu.Lock()
	var w writing
	if s.written[rec] != nil {
		w = *s.written[rec]
	}
	s.mu.Unlock()
	if !w.done {
		return fmt.Errorf("wait for %s: not written", bare(rec.name))
	}
	if s.options.PropagationTimeout > 0 {
		if err := s.propagated(ctx, w.place, rec); err != nil {
			return s.delegated(rec, w.place, err)
		}
	}
	return sleep(ctx, s.options.PropagationDelay)
}

// Missing are the servers, for people to read, that do not show a record now or
// do not answer.
func (s *Solver) Missing(ctx context.Context, name, kind, data string) ([]string, error) {
	where, err := s.locate(ctx, dns.CanonicalName(name))
	if err != nil {
		return nil, err
	}
	watch, err := s.watch(ctx, where, record{name, kind, data})
	if err != nil {
		return nil, err
	}
	watch.look(ctx)
	return watch.unseen(), ctx.Err()
}

func (s *Solver) propagated(ctx context.Context, where place, rec record) error {
	limited, cancel := context.WithTimeout(ctx, s.options.PropagationTimeout)
	defer cancel()
	var watch *watch
	var lost error
	for {
		if watch == nil {
			if watch, lost = s.watch(limited, where, rec); lost != nil {
				watch = nil
			}
		}
		if watch != nil && watch.look(limited) {
			s.warnSilent(watch, where)
			return nil
		}
		if sleep(limited, s.poll) != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("wait until %s is visible: %w", bare(where.name), ctx.Err())
	}
	if lost != nil {
		return lost
	}
	return fmt.Errorf("%s %s is not visible after %s: %s: does every server of zone %s get its changes? If they are only slow: acme.dns.propagation_timeout",
		bare(where.name), rec.kind, s.options.PropagationTimeout, strings.Join(watch.unseen(), ", "), bare(where.zone))
}

func (s *Solver) warnSilent(watch *watch, where place) {
	if silent := watch.unseen(); len(silent) > 0 {
		s.options.Log.Warn("going on without name servers that do not answer", zap.String("zone", where.zone), zap.Strings("servers", silent))
	}
}

// watch finds out who has to see a record.
func (s *Solver) watch(ctx context.Context, where place, rec record) (*watch, error) {
	w := &watch{dial: s.dial, name: where.name, rec: rec}
	resolver := s.resolver()
	given := make([]nameServer, len(s.options.Resolvers))
	for i, addr := range s.options.Resolvers {
		given[i] = nameServer{addr: addr}
	}
	// Above a name that exists this can do no harm to any cache.
	_, own, err := resolver.zoneOf(ctx, where.zone)
	if len(given) > 0 && (own || err != nil) {
		w.stages = [][]*sight{sights(given)}
		return w, nil
	}
	servers, err := resolver.authorities(ctx, where.zone)
	switch hidden, ok := s.options.Provider.(interface{ ownServer() string }); {
	case err != nil && len(given) == 0 && ok: // a zone for which nobody has addresses
		servers = []nameServer{{addr: hidden.ownServer()}}
	case err != nil && len(given) == 0:
		return nil, err
	}
	w.stages = [][]*sight{sights(servers), sights(given)}
	return w, nil
}

// A watch is who has to see a record, stage by stage, and who does.
type watch struct {
	dial   dialFunc
	name   string
	rec    record
	stages [][]*sight
}

// A sight is what one server has shown.
type sight struct {
	server nameServer
	seen   bool
	silent int // looks in a row without an answer
	said   string
}

func sights(servers []nameServer) []*sight {
	all := make([]*sight, len(servers))
	for i, server := range servers {
		all[i] = &sight{server: server, said: "not asked yet"}
	}
	return all
}

// look asks once more and reports whether all who answer have the record, and
// somebody does. A later stage is asked when the one before is through.
func (w *watch) look(ctx context.Context) bool {
	shown := false
	for i, stage := range w.stages {
		if len(stage) == 0 {
			continue
		}
		var asking sync.WaitGroup
		for _, one := range stage {
			if !one.seen {
				asking.Go(func() { w.ask(ctx, one) })
			}
		}
		asking.Wait()
		last := i == len(w.stages)-1 || len(w.stages[i+1]) == 0
		if !last && cutOff(stage) {
			continue
		}
		if !passed(stage) {
			return false
		}
		shown = slices.ContainsFunc(stage, (*sight).has)
	}
	return shown
}

func (one *sight) has() bool { return one.seen }

// cutOff: nobody has ever answered, as behind a firewall that lets only the
// resolvers out. There is no point in patience then.
func cutOff(stage []*sight) bool {
	return !slices.ContainsFunc(stage, func(one *sight) bool { return one.seen || one.silent == 0 })
}

// passed: all have shown it but those who have been silent for too long.
func passed(stage []*sight) bool {
	return !slices.ContainsFunc(stage, func(one *sight) bool { return !one.seen && one.silent < patience })
}

func (w *watch) ask(ctx context.Context, one *sight) {
	answer, err := w.dial.ask(ctx, one.server.addr, w.name, dns.StringToType[w.rec.kind])
	switch {
	case err != nil && over(ctx): // not its fault: what it said before counts
	case err != nil:
		one.silent++
		one.said = strings.TrimPrefix(err.Error(), one.server.addr+": ")
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		one.silent++ // REFUSED, SERVFAIL: it does not serve the zone now
		one.said = "says " + dns.RcodeToString[answer.Rcode]
	default:
		one.silent, one.said = 0, "does not have it"
		one.seen = slices.ContainsFunc(answer.Answer, w.rec.is)
	}
}

// over: a connection's own deadline, taken from ctx, may strike just before that
// of ctx.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// is compares a record's value with one from the wire.
func (r record) is(rr dns.RR) bool {
	if text, ok := rr.(*dns.TXT); ok && r.kind == "TXT" {
		return strings.Join(text.Txt, "") == strings.Join(textStrings(r.data), "")
	}
	wanted, err := dns.NewRR(rr.Header().Name + " IN " + r.kind + " " + r.data)
	return err == nil && wanted != nil && packed(wanted) == packed(rr)
}

// packed is a record on the wire, without its TTL: in text, hexadecimal digits
// may be of either case.
func packed(rr dns.RR) string {
	rr = dns.Copy(rr)
	rr.Header().Ttl = 0
	buffer := make([]byte, dns.Len(rr))
	n, err := dns.PackRR(rr, buffer, 0, nil, false)
	if err != nil {
		return err.Error()
	}
	return string(buffer[:n])
}

// unseen are those who have not shown the record, and what they did instead.
func (w *watch) unseen() []string {
	var list []string
	for _, stage := range w.stages {
		for _, one := range stage {
			if !one.seen {
				list = append(list, fmt.Sprintf("%s %s", one.server, one.said))
			}
		}
	}
	return list
}
