package admin

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files; then read them")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

var noon = time.Date(2027, 3, 4, 12, 0, 0, 0, time.UTC)

// everyPhase is what a caller gives from the start: all phases and outcomes at zero,
// but for those named.
func everyPhase(some map[string]int) map[string]int {
	all := map[string]int{}
	for _, phase := range phaseOrder {
		all[phase] = some[phase]
	}
	return all
}

func everyOutcome(some map[string]int64) map[string]int64 {
	all := map[string]int64{}
	for _, outcome := range outcomeOrder {
		all[outcome] = some[outcome]
	}
	return all
}

// busy is a process with something of everything, all of it well.
func busy() Status {
	return Status{
		State: Ready, Ready: true, Hostname: "mail.example.org",
		Build:   Build{Version: "1.2.3", Commit: "0123abc", Go: "go1.26.6"},
		Started: noon.Add(-76 * time.Hour), Now: noon, PID: 4711,
		Listeners: []Listener{
			{
				Name: "submissions", Addresses: []string{"0.0.0.0:465", "[::]:465"}, Mode: "implicit", Backend: "mta", TLSReady: true,
				Sessions: everyPhase(map[string]int{"command": 14, "body": 3, "handshake": 1}),
				Ended: everyOutcome(map[string]int64{"completed": 81234, "client_closed": 310, "client_timeout": 42, "tls_failed": 977,
					"violation": 12, "backend_closed": 1}),
				Handshakes: []Handshakes{{"TLS 1.2", ok, 4211}, {"TLS 1.3", ok, 77418}, {"", failed, 977}},
				Messages:   92017, BytesIn: 18234567890, BytesOut: 41234567,
			},
			{
				Name: "submission", Addresses: []string{"0.0.0.0:587"}, Mode: "starttls", Backend: "mta", TLSReady: true,
				Sessions:   everyPhase(map[string]int{"command": 5, "cleartext": 2, "reply": 1}),
				Ended:      everyOutcome(map[string]int64{"completed": 12091, "no_tls": 602, "refused": 3}),
				Handshakes: []Handshakes{{"TLS 1.2", ok, 1100}, {"TLS 1.3", ok, 10999}},
				Messages:   12877, BytesIn: 2234567890, BytesOut: 4234567,
			},
			{
				Name: "mx", Addresses: []string{"0.0.0.0:25"}, Mode: "starttls-optional", Backend: "mta-mx", TLSReady: true,
				Sessions:   everyPhase(map[string]int{"greeting": 2, "dial": 1}),
				Ended:      everyOutcome(map[string]int64{"completed": 50211, "backend_unreachable": 7}),
				Handshakes: []Handshakes{{"TLS 1.3", ok, 48002}},
				Messages:   50112, BytesIn: 834567890, BytesOut: 9234567,
			},
		},
		Backends: []Backend{
			{Name: "mta", ProxyProtocol: "v2", Servers: []BackendServer{
				{Address: "127.0.0.1:10025", Up: true, Known: true, Since: noon.Add(-75 * time.Hour), Checked: noon.Add(-12 * time.Second)},
				{Address: "10.0.0.7:10025", Up: true, Known: true, Since: noon.Add(-25 * time.Minute), Checked: noon.Add(-9 * time.Second)},
			}},
			{Name: "mta-mx", ProxyProtocol: "v2", Servers: []BackendServer{
				{Address: "127.0.0.1:10026", Up: true, Known: true, Since: noon.Add(-75 * time.Hour), Checked: noon.Add(-4 * time.Second)},
			}},
		},
		Certificates: []Certificate{
			{Names: []string{"mail.example.org"}, Source: "acme", KeyType: "p256", Issuer: "E7", Serial: "3ab4", NotBefore: noon.AddDate(0, 0, -29), NotAfter: noon.AddDate(0, 0, 61),
				NextRenewal: noon.AddDate(0, 0, 31), Renewals: Results{OK: 3, Failed: 1}},
			{Names: []string{"smtp.example.org", "imap.example.org"}, Source: "/etc/smtpseal/tls.crt", KeyType: "rsa2048", Issuer: "R11",
				Serial: "99", NotBefore: noon.AddDate(0, 0, -50), NotAfter: noon.AddDate(0, 0, 40)},
		},
		Reloads:      Reloads{Results{4, 1}, Reload{Time: noon.Add(-2 * time.Hour), Result: ok}},
		Violations:   map[string]int64{"smuggling": 2, "junk": 10, "wrong_mode": 0},
		ProxyLeftOut: 5,
		Failures: []Failure{
			{Time: noon.Add(-40 * time.Second), Count: 12, Session: "0m1k2j3h", Listener: "submissions", Client: "192.0.2.9:40112",
				Phase: "handshake", Outcome: "tls_failed", Error: "tls: client offered only unsupported versions: [302 301]",
				Hint: "An old printer or scanner. tls_policy: legacy on a listener of its own lets it in."},
			{Time: noon.Add(-3 * time.Hour), Count: 1, Session: "0m1k2aaa", Listener: "mx", Client: "[2001:db8::7]:51000", Backend: "127.0.0.1:10026",
				Phase: "body", Outcome: "violation", Violation: "smuggling", Error: "a dot alone between LF and LF"},
		},
		HandshakeSeconds: Histogram{Bounds: []float64{0.005, 0.05, 0.5}, Counts: []uint64{90000, 93000, 93600}, Count: 93728, Sum: 412.5},
		DialSeconds:      Histogram{Bounds: []float64{0.001, 0.01, 0.1}, Counts: []uint64{150000, 150010, 150011}, Count: 150011, Sum: 31.25},
	}
}

// TestStatusJSON pins /status: scripts read it.
func TestStatusJSON(t *testing.T) {
	for name, status := range map[string]Status{"busy.json": busy(), "empty.json": {}} {
		text, err := json.MarshalIndent(status.complete(), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, string(text)+"\n")
	}
}

// What a client reads is what was sent: there is no field that JSON loses.
func TestStatusRoundTrip(t *testing.T) {
	want, _ := json.Marshal(busy().complete())
	var status Status
	if err := json.Unmarshal(want, &status); err != nil {
		t.Fatal(err)
	}
	if got, _ := json.Marshal(status.complete()); string(got) != string(want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestDaysLeft(t *testing.T) {
	for left, want := range map[time.Duration]int{
		0: 0, 23 * time.Hour: 0, 24 * time.Hour: 1, 61*24*time.Hour + time.Minute: 61, -time.Minute: -1, -25 * time.Hour: -2,
	} {
		s := Status{Now: noon, Certificates: []Certificate{{NotAfter: noon.Add(left)}}}
		if got := s.complete().Certificates[0].DaysLeft; got != want {
			t.Errorf("%s: %d days, want %d", left, got, want)
		}
	}
	if s := (Status{Now: noon, Certificates: []Certificate{{DaysLeft: 7}}}).complete(); s.Certificates[0].DaysLeft != 0 {
		t.Error("a certificate that is not there has days left")
	}
}

// complete works on a copy: the caller may hand out one Status many times.
func TestCompleteLeavesTheCallersAlone(t *testing.T) {
	s := Status{Now: noon, Certificates: []Certificate{{NotAfter: noon.Add(48 * time.Hour)}}, Listeners: []Listener{{}}, Backends: []Backend{{}}}
	s.complete()
	if s.Certificates[0].DaysLeft != 0 || s.Listeners[0].Sessions != nil || s.Backends[0].Servers != nil {
		t.Errorf("changed: %+v", s)
	}
}
