package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"smtpseal/admin"
)

// A process that is too busy to answer has not ended: drain goes on waiting, and
// is content only when nobody is there.
func TestDrainIsNotContentWithALateAnswer(t *testing.T) {
	asked := 0
	gone := make(chan struct{})
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "smtpseal")
		switch asked++; {
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
		case asked == 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case asked == 5:
			go func() { srv.Close(); close(gone) }()
		}
		w.Write([]byte("{}"))
	}))
	var stdout, stderr bytes.Buffer
	p := program{stdout: &stdout, stderr: &stderr}
	client := &admin.Client{Network: "tcp", Addr: srv.Listener.Addr().String()}
	before, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.drainBy(context.Background(), client, before); err != nil || stdout.String() != "drained\n" {
		t.Errorf("%v: %q", err, stdout.String())
	}
	<-gone
	if asked < 5 || !strings.Contains(stderr.String(), "draining: 0 sessions left") {
		t.Errorf("asked %d times, and shows %q", asked, stderr.String())
	}
	if err := p.drainBy(context.Background(), client, before); err == nil || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("of nobody: %v", err)
	}
}

// A file that is bad says all the same where its process is, and a process that
// runs with another file is left alone.
func TestCommandsFindTheirOwnProcess(t *testing.T) {
	running := write(t, "running.yaml", "")
	now := admin.Status{Config: running}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "smtpseal")
		if r.Method == http.MethodPost {
			json.NewEncoder(w).Encode(admin.Reload{Result: "ok"})
			return
		}
		json.NewEncoder(w).Encode(now)
	}))
	defer srv.Close()
	text := "listeners: nonsense\nadmin: {listen: \"" + srv.Listener.Addr().String() + "\"}\n"
	if err := os.WriteFile(running, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := command("reload", "-c", running); code != 0 || stdout != "reloaded\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if err := os.WriteFile(running, []byte("listeners: [\n"+text), 0o600); err != nil { // no YAML
		t.Fatal(err)
	}
	if code, _, stderr := command("status", "--live", "-c", running); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	other := write(t, "other.yaml", text)
	code, _, stderr := command("drain", "-c", other)
	if code != 1 || !strings.Contains(stderr, "runs with "+running+", not with "+other) {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
