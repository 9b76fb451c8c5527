package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is under what conditions a run was made.
type machine struct {
	Date       string
	Processor  string
	Cores      int
	Kernel     string
	System     string
	Go         string
	LoadBefore string
	Clients    int
	Programs   map[string]string // peer → version
}

func conditions(b *rig) machine {
	m := machine{
		Date:       time.Now().UTC().Format(time.DateTime) + " UTC",
		Processor:  lineOf("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		System:     strings.Trim(lineOf("/etc/os-release", "PRETTY_NAME"), `"`),
		Go:         runtime.Version(),
		LoadBefore: loadAverage(),
		Clients:    b.clients,
		Programs:   map[string]string{},
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	for _, p := range b.peers {
		m.Programs[p.name] = strings.TrimSpace(p.version)
	}
	return m
}

func (m machine) write(w io.Writer) {
	fmt.Fprintf(w, "%s; %s, %d cores; %s, Linux %s; %s; load before %s\n",
		m.Date, m.Processor, m.Cores, m.System, m.Kernel, m.Go, m.LoadBefore)
	fmt.Fprintf(w, "ECDSA P-256, TLS 1.3, X25519, AES-128-GCM; %d clients at once; processor time is user and system of the\n"+
		"whole process tree\n", m.Clients)
	for _, name := range []string{"naive", "haproxy", "smtpseal"} {
		if version, ok := m.Programs[name]; ok {
			fmt.Fprintf(w, "%s: %s\n", name, version)
		}
	}
}

// lineOf is the value in the first line of a file that begins with key.
func lineOf(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimLeft(strings.TrimSpace(rest), ":= \t")
		}
	}
	return "unknown"
}

// othersTime is the processor time that everybody but this run's processes
// has had since the machine started, the time stolen by other virtual
// machines included. To a hundredth of a second; 0 if it cannot be known.
func (b *rig) othersTime() time.Duration {
	const tick = time.Second / 100 // USER_HZ, fixed by the kernel's interface
	const idle, iowait, steal = 3, 4, 7
	var all time.Duration
	for n, field := range strings.Fields(lineOf("/proc/stat", "cpu ")) {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		if n <= steal && n != idle && n != iowait {
			all += time.Duration(ticks) * tick
		}
	}
	var ours, ended unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &ours)
	unix.Getrusage(unix.RUSAGE_CHILDREN, &ended)
	sink, err := processorTime([]int{b.sink.pid()})
	if err != nil {
		return 0
	}
	own := ours.Utime.Nano() + ours.Stime.Nano() + ended.Utime.Nano() + ended.Stime.Nano()
	return all - sink - time.Duration(own)
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
