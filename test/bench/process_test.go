package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smtpseal/test/loopback"
)

func TestStopKillsWhoIgnoresTERM(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := start(log, nil, "sh", "-c", `trap "" TERM; echo deaf; exec sleep 60`)
	if err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(tail(log), "deaf") {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	p.stop()
	if took := time.Since(began); took < stopGrace || took > stopGrace+5*time.Second {
		t.Errorf("stop took %v, want a little over %v", took, stopGrace)
	}
	if p.ended() == nil {
		t.Error("still running")
	}
}

func TestAwaitListenerTellsWhyAProcessEnded(t *testing.T) {
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(filepath.Join(t.TempDir(), "log"), nil, "sh", "-c", "echo no such key; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	err = awaitListener(p, addr)
	if err == nil || !strings.Contains(err.Error(), "exit status 1: no such key") {
		t.Errorf("error is %v, want the exit status and the output", err)
	}
}
