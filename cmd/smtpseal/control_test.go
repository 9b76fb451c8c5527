package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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
	if err := p.drainBy(context.Background(), client, time.Minute); err != nil || stdout.String() != "drained\n" {
		t.Errorf("%v: %q", err, stdout.String())
	}
	<-gone
	if asked < 5 || !strings.Contains(stderr.String(), "draining: 0 sessions left") {
		t.Errorf("asked %d times, and shows %q", asked, stderr.String())
	}
	if err := p.drainBy(context.Background(), client, time.Minute); err == nil || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("of nobody: %v", err)
	}
}
