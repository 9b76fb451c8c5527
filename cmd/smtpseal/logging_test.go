package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"smtpseal/config"
	"smtpseal/proxy"
)

func record() *proxy.Record {
	return &proxy.Record{
		Session: "id", Listener: "submissions", Client: netip.MustParseAddrPort("203.0.113.7:5000"),
		Backend: "127.0.0.1:25", Phase: proxy.PhaseReply, Outcome: proxy.BackendClosed, Err: errors.New("read: EOF"),
		TLS: true, Version: 0x0304, Cipher: 0x1301, Curve: 29, Resumed: true, ServerName: "mail.example.org",
		Helo: "client.example", Auth: "PLAIN", Messages: 2, BytesIn: 100, BytesOut: 50,
		Duration: 1500 * time.Millisecond, Handshake: 2 * time.Millisecond, Dials: []time.Duration{200 * time.Microsecond, 50 * time.Microsecond},
	}
}

// These names are what dashboards and alerts are built on.
// Durations are seconds, times RFC 3339 with milliseconds.
func TestSessionLineInJSON(t *testing.T) {
	var out tape
	log, err := newLog(&out, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	proxy.LogObserver(log).SessionEnded(record())
	var line map[string]any
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	for key, want := range map[string]any{
		"level": "info", "message": "session closed",
		"session": "id", "listener": "submissions", "client": "203.0.113.7:5000", "backend": "127.0.0.1:25",
		"phase": "reply", "outcome": "backend_closed", "error": "read: EOF",
		"tls_version": "TLS 1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256", "tls_curve": "X25519", "tls_resumed": true,
		"server_name": "mail.example.org", "helo": "client.example", "auth": "PLAIN",
		"messages": 2.0, "bytes_in": 100.0, "bytes_out": 50.0,
		"duration": 1.5, "handshake": 0.002, "dial": 0.00025,
		"hint": record().Hint(),
	} {
		if line[key] != want {
			t.Errorf("%s: %v (%T), want %v", key, line[key], line[key], want)
		}
		delete(line, key)
	}
	if when, _ := line["time"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$`).MatchString(when) {
		t.Errorf("time: %v", line["time"])
	}
	delete(line, "time")
	if len(line) > 0 {
		t.Errorf("more than is promised: %v", line)
	}
}

func TestLevelHoldsBack(t *testing.T) {
	var out tape
	log, err := newLog(&out, config.Log{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") {
		t.Error(got)
	}
	if _, err := newLog(&out, config.Log{Level: "chatty"}); err == nil {
		t.Error("level chatty is taken")
	}
}

func TestFormats(t *testing.T) {
	file, err := os.Create(write(t, "log", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		to     *os.File
		format string
		json   bool
	}{
		{file, "auto", true}, {file, "json", true}, {file, "console", false},
		{null, "auto", false}, // a character device, as a terminal is
		{null, "json", true},
	} {
		var out tape
		log := zap.New(zapcore.NewCore(encoder(c.to, c.format), zapcore.AddSync(&out), zap.InfoLevel))
		log.Info("hello", zap.Int("n", 1))
		if got := strings.HasPrefix(out.String(), "{"); got != c.json {
			t.Errorf("%s on %s: %s", c.format, c.to.Name(), out.String())
		}
	}
}

func TestFirstAndLastLine(t *testing.T) {
	var out tape
	log, err := newLog(&out, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	starting(log, parse(t, settings("127.0.0.1:2465", "127.0.0.1:25", internalIn("/s"))))
	var counters proxy.Counters
	counters.SessionEnded(record())
	counters.SessionEnded(record())
	stopped(log, 90*time.Second, counters.Totals())
	out.await(t, `"message":"starting","version":`, `"listeners":[{"name":"one","listen":["127.0.0.1:2465"],"tls":"implicit","backend":"mta"}]`,
		`"backends":[{"name":"mta","servers":["127.0.0.1:25"],"proxy_protocol":"v2"}]`)
	out.await(t, `"message":"stopped","pid":`, `,"uptime":90,"sessions":2,"messages":4,"bytes_in":200,"bytes_out":100,"violations":0}`)
}

func TestDescriptorsTooFewAreSaidWithARemedy(t *testing.T) {
	have, ok := descriptors()
	if !ok {
		t.Skip("this system has no limit on open files")
	}
	var out tape
	log, err := newLog(&out, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	warnOfDescriptors(log, int(have-spareDescriptors)/2)
	if got := out.String(); got != "" {
		t.Errorf("enough, but: %s", got)
	}
	warnOfDescriptors(log, int(have-spareDescriptors)/2+1)
	out.await(t, `"level":"warn"`, "too few file descriptors for limits.max_sessions", "LimitNOFILE=", "max_sessions: ")
	if got := descriptorRemedy(10, 100); strings.Contains(got, "max_sessions") {
		t.Errorf("proposes what cannot work: %s", got)
	}
}

func TestLogBufferGathersAndHurries(t *testing.T) {
	var out bytes.Buffer
	b := newLogBuffer(&out)
	log, err := newLog(b, config.Log{Level: "info", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("one")
	if out.Len() != 0 {
		t.Errorf("went out at once: %s", &out)
	}
	log.Warn("two")
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines are out behind a warning, want 2: %s", got, &out)
	}
	log.Info("three")
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("%d lines are out at the end, want 3: %s", got, &out)
	}
}
