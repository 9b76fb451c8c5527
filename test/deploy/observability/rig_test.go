// Package observability proves that what stands in deploy/observability fits
// the program: its rules and panels are made of metrics that a running smtpseal
// has, and its fail2ban filter reads the lines that one writes.
//
// It needs what test/install.sh gets: promtool and fail2ban. What is missing is
// a failure, never skipped.
package observability

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/debian"
	"smtpseal/test/loopback"
	"smtpseal/test/mta"
)

var update = flag.Bool("update", false, "write prometheusrule.yaml anew from alerts.yaml")

// deployed is the directory that is tested.
const deployed = "../../../deploy/observability"

// patience bounds every wait; binary is the smtpseal that TestMain builds.
const patience = 20 * time.Second

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "observability")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "smtpseal")
	code := 1
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "smtpseal/cmd/smtpseal").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// tool is the path of a program that test/install.sh has unpacked.
func tool(t *testing.T, name string) (path, root string) {
	t.Helper()
	root, err := debian.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "usr", "bin", name), root
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A process is a running smtpseal with a listener of each mode, and one,
// stranger, whose mail server expects another PROXY header.
type process struct {
	addrs map[string]string
	log   debian.Journal
}

// users are those whose password a client may get wrong.
var users = map[string]string{"alice": "secret"}

// start runs one until the test ends; form is that of its log.
func start(t *testing.T, form string) *process {
	t.Helper()
	p := startWith(t, form, "certificates: [{names: [mail.example.test], internal: true}]")
	p.wait(t, "readiness", func() bool { return p.readyz() == http.StatusOK })
	return p
}

// startWith runs one with other certificates, which need not be there soon.
func startWith(t *testing.T, form, certificates string) *process {
	t.Helper()
	dir, p := t.TempDir(), &process{addrs: map[string]string{}}
	for _, name := range []string{"submissions", "submission", "mx", "stranger", "admin"} {
		p.addrs[name] = free(t, "127.0.0.1")
	}
	p.addrs["six"] = free(t, "::1")
	good := mta.Start(t, mta.Config{Proxy: mta.V2, Users: users}).Addr()
	rude := mta.Start(t, mta.Config{Proxy: mta.V1}).Addr()
	text := fmt.Sprintf(`hostname: mail.example.test
listeners:
  - {name: submissions, listen: %q, tls: implicit, backend: mta}
  - {name: submission, listen: [%q, %q], tls: starttls, backend: mta}
  - {name: mx, listen: %q, tls: starttls-optional, backend: mta}
  - {name: stranger, listen: %q, tls: implicit, backend: stranger}
backends:
  mta: {preset: postfix, servers: [%q]}
  stranger: {preset: postfix, servers: [%q], health: {interval: off}, relay_check: off}
admin: {listen: %q}
%s
storage: {type: file, path: %q}
limits: {max_sessions: 400}
log: {level: debug, format: %s}
`, p.addrs["submissions"], p.addrs["submission"], p.addrs["six"], p.addrs["mx"], p.addrs["stranger"],
		good, rude, p.addrs["admin"], certificates, filepath.Join(dir, "storage"), form)
	file := filepath.Join(dir, "smtpseal.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "run", "-c", file)
	command.Stderr = &p.log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that panics stops nothing
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		if err := command.Wait(); err != nil {
			t.Errorf("smtpseal: %v\n%s", err, p.log.String())
		}
	})
	p.wait(t, "answer", func() bool { return p.readyz() != 0 })
	return p
}

// readyz is the status of the answer, 0 for none.
func (p *process) readyz() int {
	answer, err := http.Get("http://" + p.addrs["admin"] + "/readyz")
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

// wait asks again and again, for the process cannot tell.
func (p *process) wait(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after %s:\n%s", what, patience, p.log.String())
		}
	}
}

func free(t *testing.T, host string) string {
	t.Helper()
	addr, err := loopback.Free(host)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// metrics is what Prometheus is told.
func (p *process) metrics(t *testing.T) string {
	t.Helper()
	answer, err := http.Get("http://" + p.addrs["admin"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// ended waits for the line of the session of a client, and returns it.
func (p *process) ended(t *testing.T, client net.Addr) (line string) {
	t.Helper()
	p.wait(t, "line of "+client.String(), func() bool {
		for one := range strings.Lines(p.log.String()) {
			if strings.Contains(one, "session closed") && strings.Contains(one, `"`+client.String()+`"`) && strings.HasSuffix(one, "\n") {
				line = strings.TrimSuffix(one, "\n")
				return true
			}
		}
		return false
	})
	return line
}
