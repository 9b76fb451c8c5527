package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test's own program play the roles, as bench's does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// The bounds are wide enough for the race detector and a busy machine, and
// narrow enough to notice a clock of another unit or of another process.
func TestQuickRunMeasuresTheNaivePeer(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.json")
	var out strings.Builder
	o := options{Repeats: 1, Clients: 4, Peers: []string{"naive"}, Quick: true, JSON: report, Logs: io.Discard}
	if err := bench(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	bounds := map[string][2]float64{
		"connect, handshake, EHLO, QUIT on 465":    {100, 20_000},
		"the same, resumed":                        {50, 20_000},
		"offered resumptions taken":                {100, 100},
		"the same by STARTTLS on 587":              {100, 20_000},
		"wall time of a session on 465":            {0.2, 200},
		"one 10 KiB message a connection":          {100, 30_000},
		"many 10 KiB messages on one connection":   {10, 10_000},
		"a 50 MiB body":                            {0.2, 60},
		"a body of dots":                           {0.05, 20},
		"NOOP round trip added, median":            {1, 10_000},
		"memory per idle session, before any mail": {10, 1000},
		"the same after a 100 KiB message each":    {20, 2000},
	}
	for name, b := range bounds {
		got := sampleOf(&r, name)
		if got < b[0] || got > b[1] {
			t.Errorf("%s: %v, want from %v to %v", name, got, b[0], b[1])
		}
		if !strings.Contains(out.String(), "| "+name+" ") {
			t.Errorf("%s: not in the table", name)
		}
	}
	// The handshake is most of a message's cost, also under the race detector;
	// a resumed session is no cheaper than a message there.
	reused, alone := sampleOf(&r, "many 10 KiB messages on one connection"), sampleOf(&r, "one 10 KiB message a connection")
	if reused > alone/2 {
		t.Errorf("a message on a connection that is up costs %v, one with its own %v", reused, alone)
	}
	wantNoChildren(t)
}

func sampleOf(r *result, name string) float64 {
	for _, o := range r.Rows {
		if o.Name == name && len(o.Samples["naive"]) == 1 {
			return o.Samples["naive"][0]
		}
	}
	return -1
}

func TestInterruptedRunLeavesNoProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	logs, progress := io.Pipe()
	go func() { // interrupts behind the first figure, in the midst of the next work
		logs.Read(make([]byte, 1))
		go io.Copy(io.Discard, logs)
		time.Sleep(100 * time.Millisecond)
		cancel()
	}()
	o := options{Repeats: 100, Clients: 4, Peers: []string{"naive"}, Quick: true, Logs: progress}
	if err := bench(ctx, o, io.Discard); err == nil {
		t.Error("an interrupted run has no error")
	}
	wantNoChildren(t)
}

func wantNoChildren(t *testing.T) {
	t.Helper()
	pids, err := tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) != 1 {
		t.Errorf("processes left running: %v", pids[1:])
	}
}

func TestUnknownPeerAndWorkAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-peers", "nginx"}, {"-peers", "naive", "-only", "nothing"}} {
		o, err := parse(args)
		if err != nil {
			t.Fatal(err)
		}
		o.Logs = io.Discard
		if err := bench(t.Context(), o, io.Discard); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	wantNoChildren(t)
}
