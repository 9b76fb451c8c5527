package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Options say how a Solver works. Zero values are good for all but Provider.
type Options struct {
	Provider Provider

	// Resolvers, host or host:port, are asked instead of the system's, and must
	// see the record before the CA is told: recursive ones, or the zone's own.
	Resolvers []string

	// PropagationTimeout bounds the wait until the record is visible: 0 is two
	// minutes, a negative one does not look. PropagationDelay is waited after it.
	PropagationTimeout time.Duration
	PropagationDelay   time.Duration

	TTL time.Duration // of the records; default a minute
	Log *zap.Logger
}

const (
	defaultPropagation = 2 * time.Minute
	defaultTTL         = time.Minute

	locateTimeout  = 30 * time.Second // all questions about where a record belongs
	cleanUpTimeout = time.Minute      // acmez asks for speed, an exec provider may take that long
)

// A Solver solves DNS-01 for any number of names at once. It is an acmez.Solver
// and an acmez.Waiter.
type Solver struct {
	options Options
	dial    dialFunc
	poll    time.Duration // between two looks at whether a record is there
	system  func() []string

	mu      sync.Mutex
	written map[record]*writing
}

// A record is one value of one name, before any delegation.
type record struct{ name, kind, data string }

// A writing is what is in DNS for a record. Two orders may be given the same
// value (several key types of one name, when the CA reuses an authorization), so
// that the first to end must not remove what the second still needs.
type writing struct {
	place place
	users int
	done  bool // the provider has said so
}

// NewSolver checks the options. It speaks to nobody.
func NewSolver(options Options) (*Solver, error) {
	if options.Provider == nil {
		return nil, errors.New("no DNS provider")
	}
	resolvers := make([]string, len(options.Resolvers))
	for i, resolver := range options.Resolvers {
		var err error
		if resolvers[i], err = address(resolver); err != nil {
			return nil, err
		}
	}
	options.Resolvers = resolvers
	options.PropagationTimeout = cmp.Or(options.PropagationTimeout, defaultPropagation)
	options.TTL = cmp.Or(options.TTL, defaultTTL)
	if options.Log == nil {
		options.Log = zap.NewNop()
	}
	return &Solver{
		options: options,
		dial:    new(net.Dialer).DialContext,
		poll:    2 * time.Second,
		system:  systemResolvers,
		written: map[record]*writing{},
	}, nil
}

// Present writes the TXT record of a challenge, where CNAMEs lead.
func (s *Solver) Present(ctx context.Context, challenge acme.Challenge) error {
	return s.Add(ctx, challenge.DNS01TXTRecordName(), "TXT", challenge.DNS01KeyAuthorization())
}

// Wait returns when all who may be asked see the record.
func (s *Solver) Wait(ctx context.Context, challenge acme.Challenge) error {
	return s.Await(ctx, challenge.DNS01TXTRecordName(), "TXT", challenge.DNS01KeyAuthorization())
}

// CleanUp removes the record of a challenge and no other. It does so also when
// ctx is cancelled, which is when records would be forgotten.
func (s *Solver) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	return s.Remove(ctx, challenge.DNS01TXTRecordName(), "TXT", challenge.DNS01KeyAuthorization())
}

// Add writes a record of any type beside those that its name has already. The
// data is as in a zone file, of TXT the text alone.
func (s *Solver) Add(ctx context.Context, name, kind, data string) error {
	rec := record{dns.CanonicalName(name), kind, data}
	// Noted before anything is sent: an update whose answer is lost was perhaps
	// made, and has to be removed.
	w, known := s.use(rec)
	if known {
		return nil
	}
	where, err := s.locate(ctx, rec.name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	w.place = where
	s.mu.Unlock()
	s.options.Log.Debug("writing record", zap.String("name", where.name), zap.String("zone", where.zone), zap.String("type", kind))
	if _, err := s.options.Provider.AppendRecords(ctx, where.zone, s.records(where, rec)); err != nil {
		return s.delegated(rec, where, err)
	}
	s.mu.Lock()
	w.done = true
	s.mu.Unlock()
	return nil
}

// use counts one more who needs a record, and reports whether it is written.
func (s *Solver) use(rec record) (w *writing, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written[rec] == nil {
		s.written[rec] = &writing{}
	}
	w = s.written[rec]
	w.users++
	return w, w.done
}

// Remove removes what Add has written, when nobody else has added the same. ctx
// gives values, not an end: it has one of its own.
func (s *Solver) Remove(ctx context.Context, name, kind, data string) error {
	rec := record{dns.CanonicalName(name), kind, data}
	s.mu.Lock()
	w := s.written[rec]
	if w != nil {
		w.users--
	}
	last := w != nil && w.users <= 0
	if last {
		delete(s.written, rec)
	}
	s.mu.Unlock()
	if !last || w.place.zone == "" {
		return nil // another needs it, or nothing was sent
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	_, err := s.options.Provider.DeleteRecords(ctx, w.place.zone, s.records(w.place, rec))
	switch {
	case err == nil:
		s.options.Log.Debug("record removed", zap.String("name", w.place.name), zap.String("zone", w.place.zone), zap.String("type", kind))
	case !w.done: // as it could not be written; that error has been told
		s.options.Log.Debug("record may be left", zap.String("name", w.place.name), zap.Error(err))
		return nil
	default:
		return s.delegated(rec, w.place, fmt.Errorf("record is left: %w", err))
	}
	return nil
}

func (s *Solver) records(where place, rec record) []libdns.Record {
	return []libdns.Record{libdns.RR{
		Name: libdns.RelativeName(where.name, where.zone),
		TTL:  s.options.TTL,
		Type: rec.kind,
		Data: rec.data,
	}}
}

// delegated adds to an error where a CNAME has led.
func (s *Solver) delegated(rec record, where place, err error) error {
	if rec.name == where.name {
		return err
	}
	if needs, ok := errors.AsType[*needsCNAME](err); ok {
		return &needsCNAME{bare(rec.name), bare(where.name), needs.target}
	}
	return fmt.Errorf("%s, a CNAME to %s: %w", bare(rec.name), bare(where.name), err)
}

// locate finds where a record belongs. A provider that is told its zone needs
// nobody to find it, which in a closed network may be nobody.
func (s *Solver) locate(ctx context.Context, name string) (place, error) {
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	where, err := s.resolver().locate(ctx, name)
	own, told := s.options.Provider.(interface{ ownZone(string) string })
	if told && err == nil && own.ownZone(where.name) != "" {
		where.zone = own.ownZone(where.name)
	}
	if told && err != nil && own.ownZone(name) != "" && ctx.Err() == nil {
		s.options.Log.Warn("cannot see whether the name is a CNAME, writing to the zone that is set", zap.String("name", name), zap.Error(err))
		return place{name, own.ownZone(name)}, nil
	}
	if err == nil && strings.ContainsFunc(where.name, strange) {
		return place{}, fmt.Errorf("%s: leads to %q, which is no name for a challenge: mend the CNAME", bare(name), where.name)
	}
	return where, err
}

// strange characters have no place in a name that goes on to programs and APIs.
func strange(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

// resolver asks who is to be asked now: the system's file may have changed.
func (s *Solver) resolver() *resolver {
	servers := s.options.Resolvers
	if len(servers) == 0 {
		if own, ok := s.options.Provider.(interface{ ownServer() string }); ok {
			servers = append(servers, own.ownServer())
		}
		servers = append(servers, s.system()...)
	}
	return &resolver{dial: s.dial, servers: servers}
}

// systemResolvers are those of resolv.conf(5), at most the three that it may
// have, or the local one, which it means without any.
func systemResolvers() []string {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(config.Servers) == 0 {
		return []string{"127.0.0.1:53"}
	}
	servers := config.Servers[:min(3, len(config.Servers))]
	for i, server := range servers {
		servers[i] = net.JoinHostPort(server, config.Port)
	}
	return servers
}
