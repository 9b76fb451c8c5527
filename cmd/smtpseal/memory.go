package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A tidier keeps what the process holds near what its sessions need.
//
// A handshake leaves some 50 KiB of garbage. With the runtime's own rule a
// nearly empty process would collect every few dozen handshakes; so at least
// betweenCollections may gather first. And a process that has fallen quiet
// would keep what its last burst took, twice over: so it collects, gives the
// pages back and lets stacks shrink, once for each burst.
//
// GOGC, if set, is left alone; GOMEMLIMIT works as ever.
type tidier struct {
	mayPace bool
	percent int
	before  uint64 // octets ever allocated, at the last look
	tidied  uint64 // … when it was tidied last
	read    func() (allocated, live uint64)
	tidy    func()
}

const (
	lookEvery          = 3 * time.Second
	betweenCollections = 6 << 20 // more no longer fits into the processor's cache: 32 MiB cost 8 % more time than this
	burst              = 4 << 20 // allocated since the last tidying, to be worth another
)

// tidying looks after the memory until the function that it returns is called.
func tidying() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { newTidier().run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func newTidier() *tidier {
	t := &tidier{mayPace: os.Getenv("GOGC") == "", percent: 100, read: readHeap, tidy: tidyUp}
	t.pace(0)
	return t
}

// run looks after the memory until ctx ends.
func (t *tidier) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.look()
		}
	}
}

func (t *tidier) look() {
	allocated, live := t.read()
	quiet := allocated-t.before < live/16+256<<10
	t.before = allocated
	if quiet && allocated-t.tidied > burst {
		t.tidy()
		allocated, live = t.read()
		t.before, t.tidied = allocated, allocated
	}
	t.pace(live)
}

// pace sets how much garbage may gather: as much as lives, or
// betweenCollections if that is more.
func (t *tidier) pace(live uint64) {
	const least = 2 << 20 // what an empty process has
	percent := max(100, int(betweenCollections*100/max(live, least)))
	if !t.mayPace || percent == t.percent {
		return
	}
	t.percent = percent
	debug.SetGCPercent(percent)
}

// tidyUp collects twice: a stack shrinks by half at each.
func tidyUp() {
	runtime.GC()
	debug.FreeOSMemory()
}

func readHeap() (allocated, live uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}
