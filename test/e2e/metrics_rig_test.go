package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"smtpseal/admin"
	"smtpseal/test/mta"
)

// The listeners that lead to backends with a fault, all implicit.
const (
	toNobody   = "to-nobody"   // nobody listens
	toRude     = "to-rude"     // refuses everybody
	toMortal   = "to-mortal"   // dies in mid-message
	toStranger = "to-stranger" // takes a PROXY header for a command
)

// newFleet starts a process with a backend for each outcome.
func newFleet(t *testing.T) (p *process, good *mta.Server) {
	t.Helper()
	good = mta.Start(t, mta.Config{Proxy: mta.V2})
	backends := []struct{ name, listener, addr, proxy string }{
		{"mta", "", good.Addr(), "v2"},
		{"nobody", toNobody, mta.Refusing(t), "v2"},
		{"rude", toRude, mta.Start(t, mta.Config{Proxy: mta.V2, Greeting: "554 5.7.1 no\r\n"}).Addr(), "v2"},
		{"mortal", toMortal, mta.Start(t, mta.Config{Proxy: mta.V2, Faults: []mta.Fault{{At: mta.Body, Octets: 3, Then: mta.Reset}}}).Addr(), "v2"},
		{"stranger", toStranger, mta.Start(t, mta.Config{}).Addr(), "v1"},
	}
	dir, at := t.TempDir(), freeAddr(t)
	addrs := map[string]string{}
	var text, below strings.Builder
	fmt.Fprintf(&text, "hostname: %s\nlisteners:\n", hostname)
	listen := func(name, mode, backend string) {
		addrs[name] = freeAddr(t)
		fmt.Fprintf(&text, "  - {name: %s, listen: %q, tls: %s, backend: %s}\n", name, addrs[name], mode, backend)
	}
	listen(submissions, "implicit", "mta")
	listen(submission, "starttls", "mta")
	listen(mx, "starttls-optional", "mta")
	for _, b := range backends {
		if b.listener != "" {
			listen(b.listener, "implicit", b.name)
		}
		fmt.Fprintf(&below, "  %s: {servers: [%q], proxy_protocol: %s, health: {interval: off}, relay_check: off}\n", b.name, b.addr, b.proxy)
	}
	fmt.Fprintf(&text, `backends:
%sadmin: {listen: %q}
certificates: [{names: [%s], internal: true}]
storage: {type: file, path: %q}
timeouts: {shutdown: 30s, cleartext: 5m, command: 5s}
limits: {max_sessions: 4000, max_sessions_per_client: %d}
log: {level: debug, format: json}
`, below.String(), at, hostname, filepath.Join(dir, "storage"), perClient)
	file := filepath.Join(dir, "smtpseal.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p = serveFile(t, file)
	p.addrs, p.admin = addrs, at
	p.trust(filepath.Join(dir, "storage", "internal", "root.crt"))
	return p, good
}

// perClient is the limit; crowd has so many sessions already.
const (
	perClient = 20
	crowd     = "127.0.9.9"
)

// A visitor is a client that takes what comes: how its session ended is the
// log's to say.
type visitor struct {
	p    *process
	at   string // the listener
	tls  *tls.Config
	conn net.Conn
}

// visitAs opens a session from an address of its own and plays it.
func (p *process) visitAs(from, listener string, config *tls.Config, play func(*visitor)) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", p.addrs[listener])
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	play(&visitor{p, listener, config, conn})
	return nil
}

// patience bounds a visit.
const patience = 20 * time.Second

// say says one thing after the other, and waits for a reply to each, whichever.
func (v *visitor) say(lines ...string) {
	for _, line := range lines {
		if exchange(v.conn, step{line + "\r\n", ""}) != nil {
			return
		}
	}
}

// seal goes on over TLS, behind STARTTLS where that is needed.
func (v *visitor) seal() bool {
	if v.at == submission || v.at == mx {
		if upgrade(v.conn) != nil {
			return false
		}
	}
	sealed := tls.Client(v.conn, v.tls)
	if sealed.Handshake() != nil {
		return false
	}
	v.conn = sealed
	return v.at == submission || v.at == mx || v.hear()
}

// hear reads one reply.
func (v *visitor) hear() bool { return exchange(v.conn, step{"", ""}) == nil }

// drain reads until the end.
func (v *visitor) drain() {
	for b := make([]byte, 4096); ; {
		if _, err := v.conn.Read(b); err != nil {
			return
		}
	}
}

// series are numbers by name and labels, as /metrics writes them. What is zero
// is left out.
type series map[string]float64

func (s series) add(n float64, format string, args ...any) {
	if n != 0 {
		s["smtpseal_"+fmt.Sprintf(format, args...)] += n
	}
}

// compared are the metrics that follow from the lines of sessions.
var compared = []string{"sessions_total", "handshakes_total", "messages_total", "bytes_total", "violations_total", "proxy_left_out_total",
	"handshake_seconds_count"}

// logged is what the lines of the log add up to.
func (p *process) logged() (s series, lines int) {
	s = series{}
	all := p.all("session closed")
	for _, e := range all {
		l := e.text("listener")
		s.add(1, "sessions_total{listener=%q,outcome=%q}", l, e.text("outcome"))
		if e.text("violation") != "" {
			s.add(1, "violations_total{kind=%q}", e.text("violation"))
		}
		s.add(e.number("messages"), "messages_total{listener=%q}", l)
		s.add(e.number("bytes_in"), "bytes_total{direction=%q,listener=%q}", "in", l)
		s.add(e.number("bytes_out"), "bytes_total{direction=%q,listener=%q}", "out", l)
		s.add(e.number("proxy_left_out"), "proxy_left_out_total")
		switch {
		case e.text("tls_cipher") != "":
			s.add(1, "handshakes_total{listener=%q,result=%q,version=%q}", l, "ok", e.text("tls_version"))
			s.add(1, "handshake_seconds_count")
		case e.text("phase") == "handshake":
			s.add(1, "handshakes_total{listener=%q,result=%q,version=%q}", l, "failed", e.text("tls_version"))
		}
	}
	return s, len(all)
}

// shown is what /status says.
func shown(status admin.Status) series {
	s := series{}
	for _, l := range status.Listeners {
		for outcome, n := range l.Ended {
			s.add(float64(n), "sessions_total{listener=%q,outcome=%q}", l.Name, outcome)
		}
		for _, h := range l.Handshakes {
			s.add(float64(h.Count), "handshakes_total{listener=%q,result=%q,version=%q}", l.Name, h.Result, h.Version)
		}
		s.add(float64(l.Messages), "messages_total{listener=%q}", l.Name)
		s.add(float64(l.BytesIn), "bytes_total{direction=%q,listener=%q}", "in", l.Name)
		s.add(float64(l.BytesOut), "bytes_total{direction=%q,listener=%q}", "out", l.Name)
	}
	for kind, n := range status.Violations {
		s.add(float64(n), "violations_total{kind=%q}", kind)
	}
	s.add(float64(status.ProxyLeftOut), "proxy_left_out_total")
	s.add(float64(status.HandshakeSeconds.Count), "handshake_seconds_count")
	return s
}

// scraped is what /metrics says, of all names.
func (p *process) scraped(t *testing.T) series {
	t.Helper()
	s := series{}
	_, text := p.visit(t, "/metrics")
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if name += "}"; !ok {
			name, value, ok = strings.Cut(strings.TrimSpace(line), " ")
		}
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && n != 0 {
			s[name] = n
		}
	}
	return s
}

// only keeps the metrics that are compared.
func (s series) only() series {
	kept := maps.Clone(s)
	maps.DeleteFunc(kept, func(name string, _ float64) bool {
		for _, metric := range compared {
			if rest, ok := strings.CutPrefix(name, "smtpseal_"+metric); ok && (rest == "" || rest[0] == '{') {
				return false
			}
		}
		return true
	})
	return kept
}

// differ tells where two are not the same.
func (s series) differ(t *testing.T, what string, other series) {
	t.Helper()
	for name, n := range s {
		if other[name] != n {
			t.Errorf("%s: the log adds up to %v, %s says %v", name, n, what, other[name])
		}
	}
	for name, n := range other {
		if _, is := s[name]; !is {
			t.Errorf("%s: %s says %v, the log nothing", name, what, n)
		}
	}
}
