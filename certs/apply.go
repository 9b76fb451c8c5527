package certs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// Apply makes entries the certificates that are kept. Those that were kept
// before go on as they are, new ones are opened, and the supervisors of those
// that are gone end. If one cannot be opened nothing has changed.
func (s *Source) Apply(ctx context.Context, entries []Entry) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	next, err := s.plan(ctx, entries)
	if err != nil {
		return err
	}
	endAll(s.replace(next))
	return nil
}

// replace puts a plan into effect and returns those whose supervisors are to
// end.
func (s *Source) replace(next *plan) (gone []*managed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours && !next.has[k.key()] {
			gone = append(gone, m)
		}
	}
	s.keepers = next.keepers
	names := map[string]bool{}
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours && m.origin == originACME {
			names[m.name] = true
			if reverse, err := dns.ReverseAddr(m.name); err == nil {
				names[strings.TrimSuffix(reverse, ".")] = true
			}
		}
	}
	s.acmeNames.Store(&names)
	s.swapIndex()
	if s.running != nil {
		s.supervise(s.running)
	}
	return gone
}

// A plan is what the keepers will be.
type plan struct {
	keepers []keeper
	has     map[string]bool
	fresh   []*managed
}

func (p *plan) add(k keeper) {
	if !p.has[k.key()] { // a name in two entries is one certificate
		p.has[k.key()] = true
		p.keepers = append(p.keepers, k)
	}
}

func (s *Source) plan(ctx context.Context, entries []Entry) (*plan, error) {
	if len(entries) == 0 {
		return nil, errors.New("certificates: none configured: name a pair of PEM files, or names for ACME or the internal CA")
	}
	have := map[string]keeper{}
	for _, k := range s.keepers {
		have[k.key()] = k
	}
	p := &plan{has: map[string]bool{}}
	for _, e := range entries {
		var err error
		switch {
		case e.CertFile != "":
			err = s.planFile(p, have, e.Pair)
		case len(e.Names) == 0:
			err = errors.New("certificate: neither files nor names")
		case e.Internal:
			err = s.planInternal(ctx, p, have, e.Names)
		default:
			err = s.planACME(p, have, e)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, s.loadAll(ctx, p.fresh)
}

func (s *Source) planFile(p *plan, have map[string]keeper, pair Pair) error {
	if k := have[pairKey(pair)]; k != nil {
		p.add(k)
		return nil
	}
	f, err := openPair(pair, s.log)
	if err != nil {
		return err
	}
	p.add(f)
	return nil
}

func (s *Source) planInternal(ctx context.Context, p *plan, have map[string]keeper, names []string) error {
	n, err := s.openInternal(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.planManaged(p, have, n.leaves, name); err != nil {
			return fmt.Errorf("internal certificate: %w", err)
		}
	}
	return nil
}

func (s *Source) planACME(p *plan, have map[string]keeper, e Entry) error {
	if s.acme == nil {
		return fmt.Errorf("certificate for %s: ACME is not configured", e.Names[0])
	}
	if len(e.KeyTypes) == 0 {
		e.KeyTypes = []string{keyTypes[0].name}
	}
	for _, name := range e.Names {
		for _, kind := range e.KeyTypes {
			kind, err := keyTypeOf(kind)
			if err == nil {
				err = s.planManaged(p, have, s.acme.issuance(kind, s.options.poll()), name)
			}
			if err != nil {
				return fmt.Errorf("certificate by ACME: %w", err)
			}
		}
	}
	return nil
}

func (s *Source) planManaged(p *plan, have map[string]keeper, i *issuance, name string) error {
	name, err := internalName(name)
	if err != nil {
		return err
	}
	m := &managed{issuance: i, name: name, source: s, nudge: make(chan struct{}, 1), read: map[string][]byte{}, expiry: expiry{renewed: true},
		log: s.log.With(zap.String("source", i.origin), zap.String("name", name), zap.String("key_type", i.kind.name))}
	if k := have[m.key()]; k != nil {
		p.add(k)
		return nil
	}
	if !p.has[m.key()] {
		p.fresh = append(p.fresh, m)
	}
	p.add(m)
	return nil
}

// loadAll loads what the storage has for new certificates, many at once: a
// thousand round trips one behind the other would make a long start. What the
// internal CA lacks is made here; what ACME lacks is not waited for.
func (s *Source) loadAll(ctx context.Context, fresh []*managed) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	former := sync.OnceValues(func() ([]string, error) { return folders(ctx, s.options.Storage) })
	const loaders = 16
	queue := make(chan *managed)
	failed := make(chan error, loaders)
	var all sync.WaitGroup
	for range min(loaders, len(fresh)) {
		all.Go(func() {
			var first error
			for m := range queue {
				if err := m.open(ctx, former); err != nil && first == nil {
					first = err
				}
			}
			if first != nil {
				failed <- first
			}
		})
	}
	for _, m := range fresh {
		queue <- m
	}
	close(queue)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// open loads a certificate for the first time. former lists the folders that it
// may be in if its CA is a new one.
func (m *managed) open(ctx context.Context, former func() ([]string, error)) error {
	err := m.reload(ctx)
	if m.origin == originACME {
		if err == nil && m.certificate() == nil {
			var folders []string
			if folders, err = former(); err == nil {
				err = m.formerly(ctx, folders)
			}
		}
		m.looked(err) // it may be back when the supervisor looks
		return nil
	}
	if m.due(time.Now()) {
		err = m.attempt(ctx, false)
	}
	m.watchExpiry()
	switch {
	case m.certificate() == nil && err != nil:
		return fmt.Errorf("internal certificate: %s: %w", m.name, err)
	case err != nil: // no reason not to serve what is there
		m.tried(err)
	}
	return nil
}

// start begins to supervise, until halt.
func (s *Source) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = ctx
	s.supervise(ctx)
}

// supervise starts the supervisors that do not run yet. The caller holds mu.
func (s *Source) supervise(ctx context.Context) {
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours && m.done == nil {
			m.done = make(chan struct{})
			ctx, stop := context.WithCancel(ctx)
			m.stop = stop
			go m.supervise(ctx)
		}
	}
}

// halt waits for all supervisors, whose context has ended.
func (s *Source) halt() {
	s.mu.Lock()
	s.running = nil
	var all []*managed
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours {
			all = append(all, m)
		}
	}
	s.mu.Unlock()
	endAll(all)
}

// endAll stops the supervisors of those that have one, and waits for them. They
// may want Source.mu before they end.
func endAll(all []*managed) {
	for _, m := range all {
		if m.done != nil {
			m.stop()
		}
	}
	for _, m := range all {
		if m.done != nil {
			<-m.done
		}
	}
}

func (m *managed) key() string { return m.origin + " " + m.kind.name + " " + m.name }

func pairKey(p Pair) string { return "file " + p.CertFile + "\x00" + p.KeyFile }
