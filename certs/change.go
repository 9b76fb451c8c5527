package certs

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// A Change is a set of entries that has been opened and is not in use yet.
type Change struct {
	source *Source
	plan   *plan
	ended  sync.Once
}

// Prepare opens entries without any effect on what is served: certificates that
// are kept already go on as they are, new ones are loaded, and what the internal
// CA lacks is made. If one cannot be had that is an error, and there is no
// Change. So it is if the files of a pair in use hold something else by now that
// cannot replace it, or those of a new pair a certificate that is not valid: who
// reloads has put them there, and is there to be told. The caller owes Commit or Discard. Until then another Prepare waits,
// as long as its ctx lasts.
//
// What ACME is to obtain is asked for behind Commit only. TLSConfig may be
// called before it: a configuration serves whatever the Source does.
func (s *Source) Prepare(ctx context.Context, entries []Entry) (*Change, error) {
	return s.prepare(ctx, entries, false)
}

func (s *Source) prepare(ctx context.Context, entries []Entry, lenient bool) (*Change, error) {
	select {
	case s.applying <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("certificates: another change is under way: %w", ctx.Err())
	}
	next, err := s.plan(ctx, entries, lenient)
	if err != nil {
		next.discard()
		<-s.applying
		return nil, err
	}
	return &Change{source: s, plan: next}, nil
}

// Names are those that are served behind Commit, as Source.Names has them.
func (c *Change) Names() []string {
	c.source.mu.Lock() // some of them are looked after already
	defer c.source.mu.Unlock()
	return namesOf(c.plan.keepers)
}

// Commit makes the entries those that are kept. It cannot fail, and returns when
// the supervisors of those that are gone have ended. Of Commit and Discard only
// the first call has an effect.
func (c *Change) Commit() {
	c.ended.Do(func() {
		endAll(c.source.replace(c.plan))
		<-c.source.applying
	})
}

// Discard gives the change up. Nothing of it is left but what the internal CA
// has made in the storage, which the next one finds there.
func (c *Change) Discard() {
	c.ended.Do(func() {
		c.plan.discard()
		<-c.source.applying
	})
}

// Apply is Prepare and Commit.
func (s *Source) Apply(ctx context.Context, entries []Entry) error {
	return s.apply(ctx, entries, false)
}

func (s *Source) apply(ctx context.Context, entries []Entry, lenient bool) error {
	c, err := s.prepare(ctx, entries, lenient)
	if err == nil {
		c.Commit()
	}
	return err
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
	if next.internal != nil {
		s.internal = next.internal
		if s.over { // closed since it was prepared
			s.internal.close()
		}
	}
	s.answerFor(s.keepers)
	s.swapIndex()
	if s.running != nil {
		s.supervise(s.running)
	}
	return gone
}

// answerFor sets for which names challenges are answered.
func (s *Source) answerFor(keepers []keeper) {
	names := map[string]bool{}
	for _, k := range keepers {
		if m, ours := k.(*managed); ours && m.origin == originACME {
			names[m.name] = true
			if reverse, err := dns.ReverseAddr(m.name); err == nil {
				names[strings.TrimSuffix(reverse, ".")] = true
			}
		}
	}
	s.acmeNames.Store(&names)
}
