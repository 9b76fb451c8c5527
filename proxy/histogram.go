package proxy

import (
	"slices"
	"time"
)

// A Histogram sums times up, as Prometheus has them.
type Histogram struct {
	Bounds []float64 // in seconds, ascending; not to be changed
	Counts []uint64  // how many were not longer than the bound of the same index
	Count  uint64    // of all
	Sum    float64   // in seconds
}

// bounds are those of handshakes and dials: from a session that is resumed, or
// a backend on this host, to where timeouts.handshake and timeouts.dial end it.
var bounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newHistogram() Histogram {
	return Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds))}
}

func (h *Histogram) add(d time.Duration) {
	seconds := d.Seconds()
	h.Count++
	h.Sum += seconds
	for i := len(h.Bounds) - 1; i >= 0 && seconds <= h.Bounds[i]; i-- {
		h.Counts[i]++
	}
}

func (h Histogram) clone() Histogram {
	h.Counts = slices.Clone(h.Counts)
	return h
}
