package main

import (
	"context"
	"fmt"
	"time"
)

// measure does every work with every peer, repeat by repeat, the first peer
// changing each time, into r.
func (b *rig) measure(ctx context.Context, o options, r *result) error {
	for _, p := range b.peers {
		r.Peers = append(r.Peers, p.name)
	}
	var chosen []work
	for _, w := range works {
		if o.Only == nil || o.Only.MatchString(w.name) {
			chosen = append(chosen, w)
			r.expect(w.rows)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-only %s matches no work", o.Only)
	}
	for repeat := range o.Repeats {
		for _, w := range chosen {
			for n := range b.peers {
				p := b.peers[(n+repeat)%len(b.peers)]
				if w.startTLS && !p.startTLS {
					continue
				}
				began := time.Now()
				figures, pace, err := b.once(ctx, w, p)
				if err != nil {
					return fmt.Errorf("%s with %s: %w", w.name, p.name, err)
				}
				r.add(w.rows, p.name, figures, pace)
				fmt.Fprintf(b.logs, "repeat %d of %d  %-9s  %-8s %8.2f %-10s (%.1f s)\n",
					repeat+1, o.Repeats, w.name, p.name, figures[0], w.rows[0].Unit, time.Since(began).Seconds())
			}
		}
	}
	return nil
}

// once measures one work on a fresh instance of a peer.
func (b *rig) once(ctx context.Context, w work, p peer) (figures []float64, pace float64, err error) {
	i, err := b.run(ctx, p)
	if err != nil {
		return nil, 0, err
	}
	defer i.stop()
	if figures, err = w.run(ctx, b, i); err != nil {
		return nil, 0, err
	}
	if err := i.ended(); err != nil {
		return nil, 0, err
	}
	return figures, i.pace, b.sink.ended()
}
