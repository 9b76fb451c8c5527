package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"smtpseal/probe"
	"smtpseal/test/faulty"
)

func TestProbeUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"probe", "probe needs a host: smtpseal probe mail.example.org"},
		{"probe mail.example.org:0", `"mail.example.org:0" is no HOST or HOST:PORT`},
		{"probe mail.example.org:smtp", `"mail.example.org:smtp" is no HOST or HOST:PORT`},
		{"probe [::1", `"[::1" is no HOST or HOST:PORT`},
		{"probe mail/example", `"mail/example" is no HOST or HOST:PORT`},
		{"probe a@example.org", `"a@example.org" is no host; addresses belong to --relay FROM TO`},
		{"probe mail.example.org --relay a@example.org", "--relay needs two addresses: --relay FROM TO"},
		{"probe mail.example.org --relay a@example.org b@example.org c@example.org", "--relay needs two addresses: --relay FROM TO"},
		{"probe mail.example.org --relay a@example.org b>@example.org", `"b>@example.org" is no email address`},
		{"probe mail.example.org --mode starttls", "--mode needs a port: mail.example.org:PORT"},
		{"probe mail.example.org:25 --mode plain", `--mode "plain" is unknown; there are implicit, starttls, starttls-optional`},
		{"probe mail.example.org --timeout 1h", "--timeout 1h0m0s is out of reason; 100ms to 5m"},
		{"probe" + strings.Repeat(" mail.example.org", 33), "33 hosts are too many at once; 32 is the most"},
	} {
		code, stdout, stderr := command(strings.Fields(c.line)...)
		if want := "smtpseal: " + c.want + "\n  see: smtpseal probe --help\n"; code != 2 || stdout != "" || stderr != want {
			t.Errorf("smtpseal %s: exit %d\nstdout %q\nstderr %q\nwant   %q", c.line, code, stdout, stderr, want)
		}
	}
}

func TestProbeTargets(t *testing.T) {
	for text, want := range map[string]probe.Target{
		"mail.example.org":     {Host: "mail.example.org"},
		"mail.example.org.":    {Host: "mail.example.org"},
		"mail.example.org:465": {Host: "mail.example.org", Port: "465"},
		"192.0.2.1":            {Host: "192.0.2.1"},
		"2001:db8::1":          {Host: "2001:db8::1"},
		"[2001:db8::1]:25":     {Host: "2001:db8::1", Port: "25"},
	} {
		if got, ok := parseTarget(text); !ok || got != want {
			t.Errorf("%s: %+v, %v", text, got, ok)
		}
	}
}

// probing starts a server and returns the arguments to look at it. DNS is asked
// where nobody answers.
func probing(t *testing.T, config faulty.Config) (*faulty.Server, []string) {
	t.Helper()
	s := faulty.Start(t, config)
	ca := write(t, "ca.pem", string(s.Authority.PEM()))
	return s, []string{"probe", s.Addr(), "--mode", config.Mode, "--server-name", faulty.Name, "--ca", ca, "--resolver", "127.0.0.1:9"}
}

// What people read: a line for what is right, two for what is not, a sum, and
// what to do next. Nothing of it is coloured, since this is no terminal.
func TestProbeSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	_, args := probing(t, faulty.Config{Mode: "starttls", Fault: faulty.TLS11})
	code, stdout, stderr := command(append(args, "--relay", "a@example.org", "b@example.net")...)
	if code != 1 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	golden(t, "probe.txt", varying.ReplaceAllString(stdout, "…"))
}

// varying are ports, ends of certificates, and how DNS fails.
var varying = regexp.MustCompile(`(?m):\d{4,5}\b|\d+ days left, until .*$|DNS server .*$`)

func TestProbeOfARightServerIsZero(t *testing.T) {
	for _, mode := range probeModes {
		s, args := probing(t, faulty.Config{Mode: mode})
		code, stdout, stderr := command(append(args, "--json", "--relay", "<>", "b@example.net")...)
		var report probe.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 || stderr != "" {
			t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
		}
		if len(report.Endpoints) != 1 || report.Endpoints[0].Address != s.Addr() || string(report.Endpoints[0].Mode) != mode || report.Failures != 0 {
			t.Errorf("%+v", report)
		}
	}
}

func TestProbeCAIsReadBeforeAnybodyIsAsked(t *testing.T) {
	empty := write(t, "empty.pem", "")
	for file, want := range map[string]string{
		empty: "smtpseal: --ca: " + empty + " has no certificate\n  give a file", filepath.Join(t.TempDir(), "none"): "smtpseal: --ca: open ",
	} {
		code, _, stderr := command("probe", "mail.example.org", "--ca", file)
		if code != 1 || !strings.HasPrefix(stderr, want) {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
}

// Ctrl-C ends it at once, with what was seen so far and exit code 1.
func TestProbeCanBeInterrupted(t *testing.T) {
	_, args := probing(t, faulty.Config{Mode: "starttls", Fault: faulty.Mute})
	signals := make(chan os.Signal, 1)
	var stdout, stderr bytes.Buffer
	out := &firstWrite{Buffer: &stdout, then: func() { signals <- os.Interrupt }}
	p := program{stdout: out, stderr: &stderr, signals: func() (<-chan os.Signal, func()) { return signals, func() {} }}
	if code := p.execute(append(args, "--timeout", "5m")); code != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit %d: %s%s", code, &stdout, &stderr)
	}
}

// A firstWrite does something when it is first written to.
type firstWrite struct {
	*bytes.Buffer
	then func()
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if w.then != nil {
		w.then()
		w.then = nil
	}
	return w.Buffer.Write(b)
}

// Endpoints are looked at together and written one below the other; on a
// terminal the last line says what is going on, and goes when it is over.
func TestProbeViewKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	v := newProbeView(&out)
	v.live = true
	check := func(title string) *probe.Check { return &probe.Check{ID: "x", Status: probe.OK, Title: title} }
	for _, e := range []probe.Event{
		{Endpoint: 1, Address: "b:1", Doing: "later"},
		{Endpoint: 0, Address: "a:1", Doing: "first"},
		{Endpoint: 1, Address: "b:1", Check: check("of b")},
		{Endpoint: 1, Address: "b:1", Done: true},
		{Endpoint: 0, Address: "a:1", Check: check("of a")},
		{Endpoint: 0, Address: "a:1", Done: true},
	} {
		v.tell(e)
	}
	want := "\r  …     a:1: first\x1b[K\r\x1b[Ka:1\n  ok    of a\n\nb:1\n  ok    of b\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
