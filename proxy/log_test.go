package proxy

import (
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// secrets are what a session must leave no trace of, in any spelling.
var secrets = []string{`"tim"`, "dGlt", "hunter2", "AHRpbQBodW50ZXIy", base64.StdEncoding.EncodeToString([]byte("hunter2")),
	"alice@example.org", "bob@example.org", "Subject: nobody's business", "AGEAYg"}

// The one line of a session has every field that is promised, and neither it
// nor anything at debug has a secret in it.
func TestLogLine(t *testing.T) {
	testPair()
	synctest.Test(t, func(t *testing.T) {
		var out syncedBuilder
		encoder := zap.NewProductionEncoderConfig()
		log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), &out, zapcore.DebugLevel))
		s := newStage(t, StartTLS, agreeableWithAuth)
		defer s.close()
		s.server.Log, s.server.Observer = log, MultiObserver{s, LogObserver(log)}
		s.apply(func(*Settings) {}) // which looks at the level
		c := s.connect()
		expect(t, c, "220 mail.example.org ESMTP\r\n")
		ask(t, c, "AUTH PLAIN AHRpbQBodW50ZXIy\r\n", "530 5.7.0 Must issue a STARTTLS command first\r\n")
		ask(t, c, "STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n")
		sealed := s.seal(c)
		ask(t, sealed, "EHLO client.example\r\n", "250 ok\r\n")
		ask(t, sealed, "AUTH AHRpbQBodW50ZXIy\r\n", "535 no\r\n") // what a broken client does
		ask(t, sealed, "aHVudGVyMg==\r\n", "535 no\r\n")          // and one that is out of step
		ask(t, sealed, "AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n")
		ask(t, sealed, "dGlt\r\n", "334 UGFzc3dvcmQ6\r\n")
		ask(t, sealed, base64.StdEncoding.EncodeToString([]byte("hunter2"))+"\r\n", "535 no\r\n")
		ask(t, sealed, "AUTH PLAIN AHRpbQBodW50ZXIy\r\n", "235 welcome\r\n")
		ask(t, sealed, "MAIL FROM:<alice@example.org>\r\n", "250 ok\r\n")
		ask(t, sealed, "RCPT TO:<bob@example.org>\r\n", "250 ok\r\n")
		ask(t, sealed, "DATA\r\n", "354 go\r\n")
		ask(t, sealed, "Subject: nobody's business\r\n.\r\n", "250 ok\r\n")
		time.Sleep(1500 * time.Millisecond)
		ask(t, sealed, "QUIT\r\n", "221 bye\r\n")
		r := <-s.records
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		last := lines[len(lines)-1]
		for _, field := range []string{`"level":"info"`, `"msg":"session closed"`, `"session":"` + r.Session + `"`, `"listener":"test"`, `"client":"203.0.113.7:5000"`,
			`"backend":"mta:25"`, `"phase":"reply"`, `"outcome":"completed"`, `"tls_version":"TLS 1.3"`, `"tls_cipher":"TLS_AES_128_GCM_SHA256"`,
			`"tls_curve":"X25519MLKEM768"`, `"tls_resumed":false`, `"server_name":"mail.example.org"`, `"helo":"client.example"`, `"auth":"PLAIN"`, `"messages":1`,
			`"bytes_in":`, `"bytes_out":`, `"duration":1.5`} {
			if !strings.Contains(last, field) {
				t.Errorf("no %s in %s", field, last)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(out.String(), secret) {
				t.Errorf("%q is in the log:\n%s", secret, out.String())
			}
		}
		if !strings.Contains(out.String(), `"verb":"DATA"`) || !strings.Contains(out.String(), `"code":354`) {
			t.Errorf("no verbs and codes at debug:\n%s", out.String())
		}
		c.Close()
	})
}

// ask sends a line and waits for its answer.
func ask(t *testing.T, c net.Conn, line, want string) {
	t.Helper()
	io.WriteString(c, line)
	expect(t, c, want)
}

// agreeableWithAuth answers AUTH, too: 235 to PLAIN, LOGIN's password is wrong.
func agreeableWithAuth(_ *stage, c net.Conn) {
	answers := map[string]string{"AUTH LOGIN\r\n": "334 VXNlcm5hbWU6\r\n", "dGlt\r\n": "334 UGFzc3dvcmQ6\r\n", "DATA\r\n": "354 go\r\n", "QUIT\r\n": "221 bye\r\n",
		"AUTH PLAIN AHRpbQBodW50ZXIy\r\n": "235 welcome\r\n", "AUTH AHRpbQBodW50ZXIy\r\n": "535 no\r\n",
		base64.StdEncoding.EncodeToString([]byte("hunter2")) + "\r\n": "535 no\r\n", "Subject: nobody's business\r\n.\r\n": "250 ok\r\n"}
	io.WriteString(c, "220 mta\r\n")
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		answer := answers[string(b[:n])]
		if answer == "" {
			answer = "250 ok\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// What a session never came to is left out of its line, and the level says how
// loud it is: the Internet's noise is debug, what an operator must see is not.
func TestLogLevels(t *testing.T) {
	for _, c := range []struct {
		r     Record
		level string
	}{
		{Record{Outcome: Completed}, "info"}, {Record{Outcome: ClientClosed}, "info"}, {Record{Outcome: NoTLS}, "info"}, {Record{Outcome: Refused}, "info"},
		{Record{Outcome: TLSFailed}, "debug"}, {Record{Outcome: TLSFailed, Violation: wrongMode}, "debug"},
		{Record{Outcome: TLSFailed, Err: errNotReady}, "warn"}, {Record{Outcome: NoTLS, Err: errNotReady}, "warn"}, {Record{Outcome: Violation, Violation: noClientAddress}, "warn"},
		{Record{Outcome: BackendUnreachable}, "warn"}, {Record{Outcome: Violation, Violation: backendMismatch}, "warn"}, {Record{Outcome: Internal}, "error"},
		{Record{Outcome: Violation, Violation: badReply, Phase: PhaseGreeting}, "warn"}, {Record{Outcome: Violation, Violation: badReply, Phase: PhaseReply}, "info"},
	} {
		line := line(&c.r)
		if !strings.Contains(line, `"level":"`+c.level+`"`) || strings.Contains(line, `"hint":`) != c.r.failed() {
			t.Errorf("%s: %s", c.r.Outcome, line)
		}
		for _, absent := range []string{"tls_version", "tls_resumed", "server_name", "client", "helo", "auth", "backend", "error", "handshake", "dial", "proxy_left_out"} {
			if strings.Contains(line, `"`+absent+`":`) && (absent != "error" || c.r.Err == nil) {
				t.Errorf("%s has %q: %s", c.r.Outcome, absent, line)
			}
		}
	}
}

// line returns the log line of a session.
func line(r *Record) string {
	var out syncedBuilder
	LogObserver(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &out, zapcore.DebugLevel))).SessionEnded(r)
	return out.String()
}

func level(r *Record) string {
	_, rest, _ := strings.Cut(line(r), `"level":"`)
	level, _, _ := strings.Cut(rest, `"`)
	return level
}

// What a client offered may fill a ClientHello, but not a log.
func TestCauseIsBounded(t *testing.T) {
	r := Record{Outcome: TLSFailed, Err: errors.New(strings.Repeat("x", 1<<16))}
	if n := len(line(&r)); n > 2*maxCause {
		t.Errorf("a line of %d octets", n)
	}
}

// Names from outside go into a line only as far as they are printable.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"mail.example.org": "mail.example.org", "a\r\nb\x1b[31m\x00\xff": "a??b?[31m??", strings.Repeat("a", 300): strings.Repeat("a", 255)} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
