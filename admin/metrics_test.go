package admin

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// scrape is what Prometheus is told.
func scrape(t *testing.T, status Status) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler := metricsHandler(func() Status { return status.complete() })
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// ours are the lines about smtpseal.
func ours(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "smtpseal_") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// TestMetrics pins every name, label and help text.
func TestMetrics(t *testing.T) {
	golden(t, "busy.metrics", ours(scrape(t, busy())))
	golden(t, "empty.metrics", ours(scrape(t, Status{})))
}

func TestMetricsHaveTheProcess(t *testing.T) {
	text := scrape(t, busy())
	for _, name := range []string{"go_goroutines ", "go_info{", "process_start_time_seconds ", "process_open_fds "} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestMetricsLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, busy()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Two of one series would make Prometheus refuse the whole answer, and so would
// text that is no UTF-8.
func TestMetricsOfTwins(t *testing.T) {
	s := Status{Now: noon}
	twin := Listener{Name: "mx\xff\x00", Messages: 3, BytesIn: 5, Sessions: map[string]int{"command": 2}, Ended: map[string]int64{"completed": 4},
		Handshakes: []Handshakes{{"TLS 1.3", ok, 7}}}
	s.Listeners = []Listener{twin, twin}
	server := BackendServer{Address: "192.0.2.1:25", Up: true}
	s.Backends = []Backend{{Name: "mta", Servers: []BackendServer{server, {Address: server.Address}}}}
	s.Certificates = []Certificate{
		{Names: []string{"mail.example.org"}, KeyType: "p256", NotAfter: noon.AddDate(0, 0, 2), Renewals: Results{OK: 1}},
		{Names: []string{"mail.example.org"}, KeyType: "rsa2048", NotAfter: noon.AddDate(0, 0, 1), Renewals: Results{OK: 2}, Problem: "old"},
	}
	text := scrape(t, s)
	for _, line := range []string{
		`smtpseal_messages_total{listener="mx�` + "\x00" + `"} 6`,
		`smtpseal_sessions{listener="mx�` + "\x00" + `",phase="command"} 4`,
		`smtpseal_sessions_total{listener="mx�` + "\x00" + `",outcome="completed"} 8`,
		`smtpseal_handshakes_total{listener="mx�` + "\x00" + `",result="ok",version="TLS 1.3"} 14`,
		`smtpseal_backend_up{backend="mta",server="192.0.2.1:25"} 0`,
		`smtpseal_certificate_not_after_seconds{name="mail.example.org"} 1.804248e+09`,
		`smtpseal_certificate_problem{name="mail.example.org"} 1`,
		`smtpseal_certificate_renewals_total{name="mail.example.org",result="ok"} 3`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %q in\n%s", line, ours(text))
		}
	}
}

// What an alert stands on moves when it should.
func TestMetricsOfTrouble(t *testing.T) {
	s := busy()
	s.State, s.Ready = Draining, false
	s.Backends[1].Warning = "it relays"
	s.Reloads.Last.Result = failed
	text := scrape(t, s)
	for _, line := range []string{
		`smtpseal_ready 0`,
		`smtpseal_draining 1`,
		`smtpseal_config_last_reload_ok 0`,
		`smtpseal_backend_open_relay{backend="mta"} 0`,
		`smtpseal_backend_open_relay{backend="mta-mx"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %q in\n%s", line, ours(text))
		}
	}
}

// The page, /status and the metrics are asked at once by many.
func TestMetricsAtOnce(t *testing.T) {
	handler := metricsHandler(func() Status { return busy().complete() })
	done := make(chan int)
	for range 16 {
		go func() {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
			done <- answer.Code
		}()
	}
	good := 0
	for range 16 {
		switch code := <-done; code {
		case 200:
			good++
		case 503: // too many at once
		default:
			t.Errorf("%d", code)
		}
	}
	if good == 0 {
		t.Error("none was answered")
	}
}
