package certs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A plan is what the keepers will be.
type plan struct {
	keepers  []keeper
	has      map[string]bool
	fresh    []*managed
	internal *internal // opened for it, if the Source had none
	lenient  bool      // pairs of files that cannot be loaded are kept all the same
	broken   []error   // why they cannot
}

func (p *plan) add(k keeper) {
	if !p.has[k.key()] { // a name in two entries is one certificate
		p.has[k.key()] = true
		p.keepers = append(p.keepers, k)
	}
}

// discard gives up what was opened. A leaf, or a root, that the internal CA has
// made meanwhile stays in the storage for the next who wants it.
func (p *plan) discard() {
	if p.internal != nil {
		p.internal.close()
	}
}

// plan opens entries. What it returns is to be discarded on an error as well.
func (s *Source) plan(ctx context.Context, entries []Entry, lenient bool) (*plan, error) {
	p := &plan{has: map[string]bool{}, lenient: lenient}
	if len(entries) == 0 {
		return p, errors.New("certificates: none configured: name a pair of PEM files, or names for ACME or the internal CA")
	}
	have := map[string]keeper{}
	for _, k := range s.keepers {
		have[k.key()] = k
	}
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
			return p, err
		}
	}
	if err := s.loadAll(ctx, p.fresh); err != nil {
		return p, err
	}
	return p, s.bear(p)
}

// bear decides about the pairs that cannot be loaded. A mail server must come up
// again after a reboot, if there is anything to serve or will be; else what is
// wrong is better said at once.
func (s *Source) bear(p *plan) error {
	if len(p.broken) == 0 {
		return nil
	}
	serves := s.options.ReadOnly
	for _, k := range p.keepers {
		_, ours := k.(*managed)
		serves = serves || ours || k.certificate() != nil
	}
	if !serves {
		return errors.Join(p.broken...)
	}
	for _, k := range p.keepers {
		if f, ok := k.(*pairFile); ok && f.current == nil {
			f.look() // says it, and may find that it is mended
		}
	}
	return nil
}

func (s *Source) planFile(p *plan, have map[string]keeper, pair Pair) error {
	if f, kept := have[pairKey(pair)].(*pairFile); kept {
		if err := s.onDisk(f); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		p.add(f)
		return nil
	}
	f, err := openPair(pair, len(have) > 0, s.log)
	if err != nil && !p.lenient {
		return err
	}
	if err != nil {
		p.broken = append(p.broken, err)
	}
	p.add(f)
	return nil
}

func (s *Source) planInternal(ctx context.Context, p *plan, have map[string]keeper, names []string) error {
	n := s.internal
	if n == nil {
		n = p.internal
	}
	if n == nil {
		var err error
		if n, err = openInternal(ctx, s.options, s.log); err != nil {
			return err
		}
		p.internal = n
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
	kinds, err := keyTypesOf(e.KeyTypes)
	if err != nil {
		return fmt.Errorf("certificate by ACME for %s: %w", e.Names[0], err)
	}
	for _, name := range e.Names {
		for _, kind := range kinds {
			err := s.planManaged(p, have, s.acme.issuance(kind, s.options.poll()), name)
			if err == nil {
				err = p.visible(name, kind)
			}
			if err != nil {
				return fmt.Errorf("certificate by ACME: %w", err)
			}
		}
	}
	return nil
}

// visible refuses a certificate that no client would ever get.
func (p *plan) visible(name string, kind keyType) error {
	ascii, err := internalName(name)
	if err != nil {
		return err
	}
	for _, other := range keyTypes {
		if kind.hides(other) && p.has[managedKey(originACME, other, ascii)] {
			return fmt.Errorf("name %q: %s beside %s: no client says which of them it can verify, so that one would never be served: keep one of them",
				name, other.name, kind.name)
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
// may be in if its CA is a new one. Of ACME, and of a Source that only reads,
// nothing is an error: the status has it.
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
	if m.source.options.ReadOnly {
		m.looked(err)
		if m.noCA != nil {
			m.state.lookError = m.noCA.Error()
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

func (m *managed) key() string { return managedKey(m.origin, m.kind, m.name) }

func managedKey(origin string, kind keyType, name string) string {
	return origin + " " + kind.name + " " + name
}

func pairKey(p Pair) string { return "file " + p.CertFile + "\x00" + p.KeyFile }
