package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"smtpseal/admin"
)

// adminAt gives a configuration an admin listener.
func adminAt(settings, addr string) string {
	return strings.Replace(settings, "admin: {listen: off}", `admin: {listen: "`+addr+`"}`, 1)
}

// asked runs a command against a process that answers with a status.
func asked(t *testing.T, now admin.Status, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "smtpseal")
		json.NewEncoder(w).Encode(now)
	}))
	defer srv.Close()
	file := write(t, "status.yaml", adminAt(settings(":465", "127.0.0.1:25", internalIn(t.TempDir())), srv.Listener.Addr().String()))
	return command(append(args, "-c", file)...)
}

func TestStatusIsTheExitCode(t *testing.T) {
	good := admin.Status{Ready: true, State: admin.Ready, Headline: "Mail flows."}
	bad := admin.Status{State: admin.Ready, Headline: "No mail.", Reasons: []string{"backend mta is down: refused", "draining"}}
	silent := admin.Status{State: admin.Starting, Headline: "It begins."}
	const reasons = "not ready: backend mta is down: refused\nnot ready: draining\n"
	for _, c := range []struct {
		name           string
		now            admin.Status
		args           []string
		code           int
		stdout, stderr string
	}{
		{"ready", good, []string{"status"}, 0, "Mail flows.\n", ""},
		{"not ready", bad, []string{"status"}, 1, "No mail.\n", reasons},
		{"not ready, but alive", bad, []string{"status", "--live"}, 0, "No mail.\n", reasons},
		{"no reason", silent, []string{"status"}, 1, "It begins.\n", "smtpseal: not ready: it is starting\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := asked(t, c.now, c.args...)
			if code != c.code || stdout != c.stdout || stderr != c.stderr {
				t.Errorf("exit %d, want %d\nstdout %q\nwant   %q\nstderr %q\nwant   %q", code, c.code, stdout, c.stdout, stderr, c.stderr)
			}
		})
	}
}

func TestStatusAsJSONIsTheWhole(t *testing.T) {
	for ready, want := range map[bool]int{true: 0, false: 1} {
		code, stdout, stderr := asked(t, admin.Status{Ready: ready, Hostname: "mail.example.org"}, "status", "--json")
		var got admin.Status
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Hostname != "mail.example.org" || code != want || stderr != "" {
			t.Errorf("exit %d, %v, stderr %q: %s", code, err, stderr, stdout)
		}
	}
}

// With a real one, which is not there in the end.
func TestStatusOfARunningProcess(t *testing.T) {
	at := free(t)
	file := write(t, "run.yaml", adminAt(settings(free(t), silent(t), internalIn(t.TempDir())), at))
	log, signals, done := new(tape), make(chan os.Signal, 2), make(chan int, 1)
	p := program{stdout: log, stderr: log, signals: func() (<-chan os.Signal, func()) { return signals, func() {} }}
	go func() { done <- p.execute([]string{"run", "-c", file}) }()
	log.await(t, `"message":"ready"`)
	if code, stdout, stderr := command("status", "-c", file); code != 0 || stdout == "" || stderr != "" {
		t.Errorf("exit %d: %q, %q", code, stdout, stderr)
	}
	signals <- syscall.SIGTERM
	if code := <-done; code != 0 {
		t.Fatalf("run ends with %d:\n%s", code, log)
	}
	for _, args := range [][]string{{"status", "-c", file}, {"status", "--live", "-c", file}} {
		if code, stdout, stderr := command(args...); code != 1 || stdout != "" || !containsAll(stderr, []string{"nobody answers", "is smtpseal running"}) {
			t.Errorf("%q: exit %d: %q, %q", args, code, stdout, stderr)
		}
	}
}

// TestStatusSaysWhatToDo: whoever has no browser on the machine is told in the
// shell what the page says. What is well is not mentioned.
func TestStatusSaysWhatToDo(t *testing.T) {
	noon := time.Date(2027, 3, 4, 12, 0, 0, 0, time.UTC)
	up := admin.BackendServer{Address: "127.0.0.1:25", Up: true}
	failure := admin.Failure{Time: noon.Add(-90 * time.Second), Count: 12, Listener: "submission", Outcome: "violation",
		Violation: "wrong_mode", Error: "no STARTTLS \x1b[2J\nhere", Hint: "choose STARTTLS"}
	for name, c := range map[string]struct {
		now  admin.Status
		want string
	}{
		"all is well": {admin.Status{Backends: []admin.Backend{{Name: "mta", Servers: []admin.BackendServer{up}}},
			Certificates: []admin.Certificate{{Names: []string{"mail.example.org"}}},
			Reloads:      admin.Reloads{Last: admin.Reload{Time: noon, Result: "ok"}}}, ""},
		"a server": {admin.Status{Backends: []admin.Backend{{Name: "mta", Servers: []admin.BackendServer{up,
			{Address: "10.0.0.7:25", Error: "connection refused", Hint: "start the mail server"}}}}},
			"server 10.0.0.7:25 of backend mta is down: connection refused\n  start the mail server\n"},
		"an open relay": {admin.Status{Backends: []admin.Backend{{Name: "mta", Warning: "it relays. Take 192.0.2.1 out"}}},
			"backend mta: it relays. Take 192.0.2.1 out\n"},
		"a certificate": {admin.Status{Certificates: []admin.Certificate{{Names: []string{"a.example", "b.example"},
			Problem: "expired on 1 March: 429", LastError: "429", Hint: "wait"}}},
			"certificate for a.example, b.example: expired on 1 March: 429\n  wait\n"},
		"a newer certificate": {admin.Status{Certificates: []admin.Certificate{{Names: []string{"a.example"}, LastError: "wrong key", Hint: "mend the files"}}},
			"certificate for a.example: last try failed: wrong key\n  mend the files\n"},
		"a reload": {admin.Status{Reloads: admin.Reloads{Last: admin.Reload{Time: noon.Add(-2 * time.Hour), Result: "failed", Error: "smtpseal.yaml:3: no port"}}},
			"last reload failed 2h0m0s ago: smtpseal.yaml:3: no port\n"},
		"an upgrade": {admin.Status{Upgrade: admin.Upgrade{Failed: 1, Last: admin.UpgradeFailed{Time: noon, Error: "ended before it was ready"}}},
			"last upgrade failed 0s ago: ended before it was ready\n  the log has the new process's own lines: mend what they say and send USR2 again\n"},
		"failures": {admin.Status{Failures: []admin.Failure{failure, {Count: 1, Listener: "mx", Outcome: "tls_failed", Error: "EOF"},
			{Count: 1, Listener: "mx", Outcome: "no_tls", Error: "left"}, {Listener: "fourth"}}},
			"failure on submission 1m30s ago: violation (wrong mode), 12 times: no STARTTLS ?[2J here\n  choose STARTTLS\n" +
				"failure on mx: tls failed: EOF\nfailure on mx: no tls: left\n"},
	} {
		c.now.Ready, c.now.Headline, c.now.Now = true, "A sentence.", noon
		code, stdout, stderr := asked(t, c.now, "status")
		if code != 0 || stdout != "A sentence.\n" || stderr != c.want {
			t.Errorf("%s: exit %d, %q\n%s\nwant\n%s", name, code, stdout, stderr, c.want)
		}
	}
}

// A server's last words may be long.
func TestStatusIsBounded(t *testing.T) {
	_, _, stderr := asked(t, admin.Status{Reasons: []string{strings.Repeat("é", 1e5)}}, "status", "--live")
	if len(stderr) > maxText+20 || !utf8.ValidString(stderr) || !strings.HasSuffix(stderr, "é …\n") {
		t.Errorf("%d octets", len(stderr))
	}
}
