package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a process and its descendants, from /proc: the kernel's list of
// children is not compiled in everywhere.
func tree(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, ok := parentOf(id); ok {
			children[parent] = append(children[parent], id)
		}
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids, nil
}

// parentOf reads the fourth field of stat, two behind the name in brackets,
// which may itself hold spaces and brackets.
func parentOf(pid int) (int, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false // ended meanwhile
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(f[1]))
	return parent, err == nil
}

// processorTime is what pids have used, user and system, all threads, living
// or ended, in nanoseconds where /proc/PID/stat counts in hundredths.
func processorTime(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		// The clock of another process: clock_getcpuclockid(3).
		const perProcess, scheduler = 0, 2
		clock := int32(^pid<<3 | perProcess | scheduler)
		var t unix.Timespec
		if err := unix.ClockGettime(clock, &t); err != nil {
			return 0, fmt.Errorf("processor time of %d: %w", pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// afterwork is how long a peer may take for what it does behind the last
// reply: closing, logging, collecting garbage.
const afterwork = 100 * time.Millisecond

// processor is the processor time that i uses while f runs, and the wall
// time of f.
func (i *instance) processor(f func() error) (used, wall time.Duration, err error) {
	pids, err := tree(i.pid())
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(afterwork)
	before, err := processorTime(pids)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, 0, errors.Join(err, i.ended())
	}
	wall = time.Since(began)
	time.Sleep(afterwork)
	after, err := processorTime(pids)
	if err != nil {
		return 0, 0, err
	}
	now, err := tree(i.pid())
	if err == nil && !slices.Equal(now, pids) {
		err = fmt.Errorf("processes changed from %v to %v: their time is lost", pids, now)
	}
	return after - before, wall, err
}

// memory is the proportional set size of i's process tree in bytes.
func (i *instance) memory() (int64, error) {
	pids, err := tree(i.pid())
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("memory: %w", err)
		}
		_, rest, found := strings.Cut(string(b), "\nPss:")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			return 0, fmt.Errorf("memory: no Pss in smaps_rollup of %d", pid)
		}
		kib, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("memory: %w", err)
		}
		sum += kib << 10
	}
	return sum, nil
}

// A settling says when memory is taken as settled: it has moved by less than
// half a percent for Still, or Most has passed. Nobody's collector is forced.
type settling struct{ Still, Most time.Duration }

func (i *instance) settled(ctx context.Context, rule settling) (int64, error) {
	const every = 250 * time.Millisecond
	began := time.Now()
	reference, err := i.memory()
	since := began
	for now := reference; err == nil; now, err = i.memory() {
		if moved := max(now-reference, reference-now); moved*200 > reference {
			reference, since = now, time.Now()
		}
		if time.Since(since) >= rule.Still || time.Since(began) >= rule.Most {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(every):
		}
	}
	return 0, err
}

// median of values, which it sorts a copy of; of none it is 0.
func median[T int64 | float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if half := len(v) / 2; len(v)%2 == 1 {
		return v[half]
	} else {
		return (v[half-1] + v[half]) / 2
	}
}
