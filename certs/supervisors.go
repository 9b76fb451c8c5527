package certs

import "context"

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
	s.mu.Unlock()
	endAll(s.managed())
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
