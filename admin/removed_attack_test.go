package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// A listener that a reload has removed is seen and counted, and says nothing of
// whether mail flows.
func TestRemovedListeners(t *testing.T) {
	gone := Listener{Name: "gone", Removed: true, Messages: 3, Sessions: map[string]int{"command": 2}, Ended: map[string]int64{"completed": 7}}
	kept := Listener{Name: "kept", Mode: "implicit", Backend: "mta", TLSReady: true}
	for _, test := range []struct {
		up   bool
		want Mail
	}{{true, MailFlows}, {false, MailStopped}} {
		status := Status{State: Ready, Ready: test.up, Listeners: []Listener{kept, gone},
			Backends: []Backend{{Name: "mta", Servers: []BackendServer{{Address: "127.0.0.1:25", Up: test.up, Known: true}}}}}.complete()
		if status.Mail != test.want {
			t.Errorf("server up %v: mail %s, want %s: %s", test.up, status.Mail, test.want, status.Headline)
		}
	}
	alone := Status{State: Ready, Listeners: []Listener{gone}}
	if got := alone.complete(); got.Mail != MailStopped {
		t.Errorf("with no other: %s", got.Headline)
	}
	s := Server{Status: func() Status { return Status{State: Draining, Listeners: []Listener{kept, gone}} }}
	for path, want := range map[string]string{
		"/metrics":         `smtpseal_sessions{listener="gone",phase="command"} 2`,
		"/":                "No longer in the configuration",
		"/readyz?verbose":  "2 sessions left",
		"/status":          `"removed": true`,
		"/metrics?ended=1": `smtpseal_sessions_total{listener="gone",outcome="completed"} 7`,
	} {
		answer := httptest.NewRecorder()
		request := httptest.NewRequest("GET", path, nil)
		request.Host = "localhost"
		s.Handler().ServeHTTP(answer, request)
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("%s lacks %q:\n%s", path, want, answer.Body)
		}
	}
}
