package e2e

import (
	"crypto/tls"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"smtpseal/proxy"
	"smtpseal/test/talk"
)

// A kind of session, so many of a hundred.
type kind struct {
	share    int
	listener string
	play     func(*visitor)
}

var oneMail = []string{"EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.test>", "DATA", "one\r\n.", "QUIT"}

func mailed(v *visitor) {
	if v.seal() {
		v.say(oneMail...)
	}
}

// sealedSaying says something once TLS is up.
func sealedSaying(lines ...string) func(*visitor) {
	return func(v *visitor) {
		if v.seal() {
			v.say(lines...)
		}
	}
}

// raw sends octets before any greeting.
func raw(text string) func(*visitor) {
	return func(v *visitor) { fmt.Fprint(v.conn, text); v.drain() }
}

var kinds = []kind{
	{12, submissions, mailed},
	{12, submission, mailed},
	{4, mx, mailed},
	{8, mx, func(v *visitor) { v.hear(); v.say(oneMail...) }},
	{6, submissions, sealedSaying("EHLO x")},
	{3, submission, sealedSaying("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.test>", "DATA")},
	{8, submission, func(v *visitor) { v.hear(); v.say("EHLO x", "QUIT") }},
	{4, submissions, raw("EHLO x\r\n")},
	{3, submissions, raw("\x00\x01\x02\x03\x04\x05\x06")},
	{3, submissions, func(v *visitor) { tls.Client(v.conn, &tls.Config{ServerName: hostname}).Handshake() }},
	{3, submissions, func(v *visitor) {
		tls.Client(v.conn, &tls.Config{ServerName: hostname, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	}},
	{4, submission, raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	{3, submission, raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
	{3, submission, func(v *visitor) { v.hear(); v.say("EHLO x"); fmt.Fprint(v.conn, "STARTTLS\r\nNOOP\r\n"); v.drain() }},
	{3, submissions, sealedSaying("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.test>", "DATA", "one\n.\nMAIL FROM:<c@example.org>")},
	{2, submissions, sealedSaying("EHLO x", "NO\x00P")},
	{2, submissions, sealedSaying("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.test>", "BDAT 0x10")},
	{4, toNobody, sealedSaying()},
	{4, toRude, sealedSaying()},
	{4, toMortal, sealedSaying(oneMail...)},
	{4, toStranger, sealedSaying("EHLO x")},
}

// crowded is played from the address that has its fill of sessions, and idle by
// a few: both are beside the hundred.
var (
	crowded = kind{0, submission, (*visitor).drain}
	idle    = kind{0, submissions, func(v *visitor) { v.seal(); v.drain() }}
)

// The counters, the page and the log tell of the same sessions, whatever has
// become of them.
func TestLogAndMetricsAgree(t *testing.T) {
	t.Parallel()
	sessions := 2000
	if full() {
		sessions = 10_000
	}
	p, good := newFleet(t)
	config := p.tls()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)

	begin := time.Now()
	begun := p.storm(t, sessions, config)
	p.compare(t, begun, 0)
	messages := 0.0
	for _, l := range []string{submissions, submission, mx} {
		messages += p.scraped(t)[fmt.Sprintf("smtpseal_messages_total{listener=%q}", l)]
	}
	if n := float64(len(good.Messages())); n != messages || n == 0 {
		t.Errorf("%v messages, and the backend has taken %v", messages, n)
	}
	t.Logf("%d sessions in %v, %v messages", begun, time.Since(begin).Round(time.Millisecond), messages)

	// A drain ends some while one goes on, so that there is still somebody to ask.
	busy := p.open(t, submission, "")
	busy.greet()
	busy.envelope("b@example.test")
	for range 5 {
		c := p.open(t, submissions, "")
		defer c.tls.Close()
	}
	p.terminate()
	p.compare(t, begun+5, 1)
	p.hasAllOutcomes(t)
	busy.Play("> DATA\n<< 354\n> late\n> .\n<< 250\n<< 421\n< FIN")
	busy.tls.Close()
}

// storm plays all kinds, in turn, by some clients at once. It returns how many
// sessions there were in all.
func (p *process) storm(t *testing.T, sessions int, config *tls.Config) (begun int) {
	t.Helper()
	for range perClient {
		conn := p.dial(t, submission, crowd)
		defer conn.Close()
		talk.With(t, conn).Play("<< 220")
	}
	var turns []kind
	for _, k := range kinds {
		for range k.share {
			turns = append(turns, k)
		}
	}
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 24 {
		clients.Go(func() {
			for n := int(next.Add(1)); n <= sessions; n = int(next.Add(1)) {
				k, from := turns[n*37%len(turns)], fmt.Sprintf("127.1.%d.%d", n/250, n%250+1)
				switch {
				case n%50 == 0:
					k, from = crowded, crowd
				case n%400 == 1 && n < 4000:
					k = idle
				}
				if err := p.visitAs(from, k.listener, config, k.play); err != nil {
					t.Errorf("%s: %v", k.listener, err)
				}
			}
		})
	}
	clients.Wait()
	return sessions + perClient
}

// compare waits until so many sessions are logged and so many go on, and then
// holds log, /metrics and /status against each other.
func (p *process) compare(t *testing.T, ended, goOn int) {
	t.Helper()
	p.wait(fmt.Sprintf("%d lines", ended), func() bool { _, lines := p.logged(); return lines >= ended })
	until(t, "rest", patience, func() bool {
		n := 0
		for _, l := range p.statusNow(t).Listeners {
			for _, count := range l.Sessions {
				n += count
			}
		}
		return n == goOn
	})
	logged, lines := p.logged()
	if lines != ended {
		t.Errorf("%d sessions, %d lines", ended, lines)
	}
	metrics := p.scraped(t)
	logged.differ(t, "/metrics", metrics.only())
	logged.differ(t, "/status", shown(p.statusNow(t)))
	for name, field := range map[string]string{"smtpseal_handshake_seconds_sum": "handshake", "smtpseal_backend_dial_seconds_sum": "dial"} {
		sum := 0.0
		for _, e := range p.all("session closed") {
			if field == "dial" || e.text("tls_cipher") != "" {
				sum += e.number(field)
			}
		}
		if math.Abs(sum-metrics[name]) > 1e-6 || sum == 0 {
			t.Errorf("%s: the log adds up to %v, /metrics says %v", name, sum, metrics[name])
		}
	}
}

// hasAllOutcomes: a comparison of nothing proves nothing.
func (p *process) hasAllOutcomes(t *testing.T) {
	t.Helper()
	have := map[string]int{}
	for _, e := range p.all("session closed") {
		have[e.text("outcome")]++
		have[e.text("violation")]++
	}
	for _, outcome := range proxy.Outcomes {
		if outcome != proxy.Internal && have[string(outcome)] == 0 {
			t.Errorf("no session has ended as %s: %v", outcome, have)
		}
	}
	for _, violation := range []string{"junk", "wrong_mode", "smuggling", "cleartext_behind_starttls", "bad_command_line", "bad_bdat", "backend_proxy_mismatch"} {
		if have[violation] == 0 {
			t.Errorf("no session has ended by %s: %v", violation, have)
		}
	}
	t.Logf("%v", have)
}
