package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel says of us by the other way, getrusage, is the reference.
func TestProcessorTimeAgreesWithGetrusage(t *testing.T) {
	usage := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	clock := func() time.Duration {
		d, err := processorTime([]int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	wantBefore, before := usage(), clock()
	for usage()-wantBefore < 100*time.Millisecond {
	}
	want, got := usage()-wantBefore, clock()-before
	if diff := (got - want).Abs(); diff > 20*time.Millisecond {
		t.Errorf("clock says %v, getrusage %v", got, want)
	}
}

func TestProcessorTimeOfTheDeadIsAnError(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if d, err := processorTime([]int{cmd.Process.Pid}); err == nil {
		t.Errorf("a dead process has used %v", d)
	}
}

func TestTreeHasGrandchildren(t *testing.T) {
	p, err := start(filepath.Join(t.TempDir(), "log"), nil, "sh", "-c", "sleep 60 & echo $!; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(-p.pid(), unix.SIGKILL) // its group: the grandchild too
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		pids, err := tree(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 3 && slices.Index(pids, p.pid()) == 1 {
			return
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("tree is %v, want us, %d and its child", pids, p.pid())
		}
	}
}

func TestMemorySeesWhatIsTouched(t *testing.T) {
	const size = 64 << 20
	self := &instance{process: &process{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}}
	before, err := self.memory()
	if err != nil {
		t.Fatal(err)
	}
	region, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(region)
	for n := 0; n < size; n += os.Getpagesize() {
		region[n] = 1
	}
	after, err := self.memory()
	if err != nil {
		t.Fatal(err)
	}
	if grown := after - before; grown < size*9/10 || grown > size*2 {
		t.Errorf("%d octets touched, memory grew by %d", size, grown)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		kept := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(kept, c.values) {
			t.Errorf("median changed %v to %v", kept, c.values)
		}
	}
}
