package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

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
