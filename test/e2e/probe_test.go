package e2e

import (
	"encoding/json"
	"errors"
	"net"
	"os/exec"
	"testing"

	"github.com/miekg/dns"

	"smtpseal/probe"
	"smtpseal/test/mta"
)

// probe finds nothing to complain of in smtpseal before a Postfix that is told
// who its clients are, and delivers nothing.
func TestProbeOfSmtpsealIsClean(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy")})
	to := recipient("probe")
	notes := map[string]bool{
		"http": true,                              // inside TLS the backend decides
		"tlsa": true, "mx": true, "mta-sts": true, // DNS knows nothing of this server
	}
	for listener, mode := range map[string]probe.Mode{submissions: probe.Implicit, submission: probe.StartTLS, mx: probe.Opportunistic} {
		report := runProbe(t, p, 0, p.addrs[listener], "--mode", string(mode), "--relay", "a@example.org", "b@example.net", "--to", to)
		for _, c := range report.Endpoints[0].Checks {
			if c.Status != probe.OK && !(c.Status == probe.Note && notes[c.ID]) {
				t.Errorf("%s: %+v", listener, c)
			}
		}
		if n := len(report.Endpoints[0].Checks); n < 25 || report.Failures+report.Warnings > 0 {
			t.Errorf("%s: %d checks, %d failures, %d warnings", listener, n, report.Failures, report.Warnings)
		}
	}
	for _, m := range mailbox.Delivered(t) {
		if m.Recipient == to {
			t.Errorf("delivered %q", m.Content)
		}
	}
}

// A server behind smtpseal that takes mail for everybody from everybody is an
// open relay, and that is the one thing that probe says of it.
func TestProbeFindsTheOpenRelayBehindUs(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	report := runProbe(t, p, 1, p.addrs[mx], "--mode", "starttls-optional", "--relay", "a@example.org", "b@example.net")
	for _, c := range report.Endpoints[0].Checks {
		if (c.Status == probe.Fail) != (c.ID == "relay") {
			t.Errorf("%+v", c)
		}
	}
	srv.WaitIdle(t)
	if mail := srv.Messages(); len(mail) > 0 {
		t.Errorf("taken: %v", mail)
	}
}

// runProbe runs the real command against one listener.
func runProbe(t *testing.T, p *process, want int, addr string, args ...string) (report probe.Report) {
	t.Helper()
	args = append([]string{"probe", "--json", addr, "--server-name", hostname, "--ca", p.rootFile, "--resolver", emptyDNS(t)}, args...)
	out, err := exec.Command(binary, args...).Output()
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if err := json.Unmarshal(out, &report); err != nil || code != want || len(report.Endpoints) != 1 {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	return report
}

// emptyDNS is a server that knows of nothing.
func emptyDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
	})}
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { server.Shutdown(); <-ended })
	return conn.LocalAddr().String()
}
