package probe_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"smtpseal/probe"
	"smtpseal/test/faulty"
)

// Whatever a server says in place of a greeting, the probe ends, soon, with one
// failure whose text can be shown on any terminal.
func TestHostileServersAreBounded(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"a line without end":  "220 " + strings.Repeat("x", 1<<20),
		"a reply without end": strings.Repeat("220-more\r\n", 1<<17),
		"silence":             "220-",
		"escapes":             "554 \x1b]0;owned\x07\x1b[2J\u202e\r\n",
		"other codes":         "220-a\r\n250 b\r\n",
		"no code":             "22\r\n",
		"binary":              strings.Repeat("\x00\xff", 100) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := build(t, faulty.Config{Mode: "starttls", Answer: answer})
			r.options.Timeout = 500 * time.Millisecond
			begun := time.Now()
			e, _, report := r.run(t)
			last := e.Checks[len(e.Checks)-1]
			if last.ID != "greeting" || last.Status != probe.Fail || report.Failures != 1 {
				t.Errorf("%+v", e.Checks)
			}
			if len(last.Detail) > 500 || strings.ContainsAny(last.Detail, "\x1b\x07\x00\u202e\r\n") {
				t.Errorf("shows %q", last.Detail)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A server that sends an octet now and then does not stretch a wait.
func TestTricklingServerDoesNotStretchAWait(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := server.Write([]byte("2")); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	options := probe.Options{
		Targets: []probe.Target{{Host: "127.0.0.1", Port: "587"}}, Resolver: "127.0.0.1:9", Timeout: 200 * time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil },
	}
	report := probe.Run(t.Context(), options, nil)
	if last := find(t, report.Endpoints[0], "greeting"); !strings.Contains(last.Detail, "no answer in time") {
		t.Errorf("%+v", last)
	}
	<-ended // the connection was closed
}

// A run that is given up ends at once.
func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := build(t, faulty.Config{Mode: "starttls", Fault: faulty.Mute})
	r.options.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	probe.Run(ctx, r.options, func(e probe.Event) {
		if e.Doing != "" && strings.Contains(e.Doing, "greets") {
			cancel()
		}
	})
}

// Events of an endpoint come in order, one at a time, and have what the report
// has.
func TestEventsTellWhatTheReportHas(t *testing.T) {
	t.Parallel()
	r := build(t, faulty.Config{Mode: "implicit"})
	r.options.Targets = append(r.options.Targets, r.options.Targets[0])
	told := map[int][]probe.Check{}
	done := map[int]bool{}
	report := probe.Run(t.Context(), r.options, func(e probe.Event) {
		if done[e.Endpoint] {
			t.Errorf("after the end: %+v", e)
		}
		done[e.Endpoint] = e.Done
		if e.Check != nil {
			told[e.Endpoint] = append(told[e.Endpoint], *e.Check)
		}
	})
	for i, e := range report.Endpoints {
		if !done[i] || len(told[i]) != len(e.Checks) {
			t.Errorf("%d: told %d of %d checks, done: %v", i, len(told[i]), len(e.Checks), done[i])
		}
	}
	if n := r.server.Sessions(); n > 2*20 {
		t.Errorf("%d connections to look at one port twice", n)
	}
}
