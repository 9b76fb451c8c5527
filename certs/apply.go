package certs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Apply makes entries the certificates that are kept. Those that were kept
// before go on as they are, new ones are opened, and the supervisors of those
// that are gone end. If one cannot be opened nothing has changed.
func (s *Source) Apply(ctx context.Context, entries []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.plan(ctx, entries)
	if err != nil {
		return err
	}
	var gone []*managed
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours && !next.has[k.key()] {
			gone = append(gone, m)
		}
	}
	s.keepers = next.keepers
	names := map[string]bool{}
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours && m.origin == "acme" {
			names[m.name] = true
		}
	}
	s.acmeNames.Store(&names)
	s.swapIndex()
	for _, m := range gone {
		m.end()
	}
	if s.running != nil {
		s.supervise(s.running)
	}
	return nil
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
	if s.internal == nil {
		n, err := openInternal(ctx, s.options, s.log)
		if err != nil {
			return err
		}
		s.internal = n
	}
	for _, name := range names {
		if err := s.planManaged(p, have, s.internal.leaves, name); err != nil {
			return fmt.Errorf("internal certificate: %w", err)
		}
	}
	return nil
}

func (s *Source) planACME(p *plan, have map[string]keeper, e Entry) error {
	if s.options.ACME == nil {
		return fmt.Errorf("certificate for %s: ACME is not configured", e.Names[0])
	}
	if s.acme == nil {
		a, err := openACME(s.options, s.log)
		if err != nil {
			return err
		}
		s.acme = a
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
	const loaders = 16
	queue := make(chan *managed)
	failed := make(chan error, loaders)
	var all sync.WaitGroup
	for range min(loaders, len(fresh)) {
		all.Go(func() {
			var first error
			for m := range queue {
				if err := m.open(ctx); err != nil && first == nil {
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

// open loads a certificate for the first time.
func (m *managed) open(ctx context.Context) error {
	err := m.reload(ctx)
	if m.origin == "acme" {
		if err != nil {
			m.failedToLook(err) // it may be back when the supervisor looks
		}
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
	defer s.mu.Unlock()
	s.running = nil
	for _, k := range s.keepers {
		if m, ours := k.(*managed); ours {
			m.end()
		}
	}
}

// end stops the supervisor, if there is one, and waits for it.
func (m *managed) end() {
	if m.done == nil {
		return
	}
	m.stop()
	<-m.done
}

func (m *managed) key() string { return m.origin + " " + m.kind.name + " " + m.name }

func pairKey(p Pair) string { return "file " + p.CertFile + "\x00" + p.KeyFile }
