package proxy

import (
	"crypto/tls"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Whatever sessions there were, the log has what the counters have.
func TestCountersEqualTheLog(t *testing.T) {
	var out syncedBuilder
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeDuration = zapcore.SecondsDurationEncoder
	log := LogObserver(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), &out, zapcore.DebugLevel)))
	var counters Counters
	both := MultiObserver{log, &counters}
	random := rand.New(rand.NewPCG(4, 4))
	dials := uint64(0)
	for range 5000 {
		r := anyRecord(random)
		dials += uint64(len(r.Dials))
		both.SessionEnded(r)
	}

	want := new(Counters).Totals()
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		addLine(&want, fields)
	}
	want.DialSeconds.Count, want.DialSeconds.Counts = dials, counters.Totals().DialSeconds.Counts // the log has sums
	got := counters.Totals()
	for _, h := range []struct{ got, want *Histogram }{{&got.HandshakeSeconds, &want.HandshakeSeconds}, {&got.DialSeconds, &want.DialSeconds}} {
		if math.Abs(h.got.Sum-h.want.Sum) > 1e-6*h.want.Sum {
			t.Errorf("%v seconds, want %v", h.got.Sum, h.want.Sum)
		}
		h.got.Sum, h.want.Sum = 0, 0 // added in another order
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v\nlogged  %+v", got, want)
	}
	if len(got.Sessions) != 2*12 || len(got.Handshakes) != 2*(2+3) {
		t.Errorf("not all kinds of sessions: %v %v", got.Sessions, got.Handshakes)
	}
}

// anyRecord makes a record of any kind.
func anyRecord(random *rand.Rand) *Record {
	outcomes := []Outcome{Completed, ClientClosed, ClientTimeout, NoTLS, TLSFailed, Refused, BackendUnreachable, BackendRefused, BackendClosed, Violation, Shutdown, Internal}
	r := &Record{
		Session: newID(), Listener: []string{"a", "b"}[random.IntN(2)], Phase: Phases[random.IntN(len(Phases))], Outcome: outcomes[random.IntN(len(outcomes))],
		Messages: random.IntN(3), BytesIn: random.Int64N(1e6), BytesOut: random.Int64N(1e6), LeftOut: random.IntN(2),
		Duration: time.Duration(random.Int64N(1e12)),
	}
	if r.Outcome == Violation {
		r.Violation = []string{smuggling, junk, wrongMode}[random.IntN(3)]
	}
	if r.TLS = random.IntN(2) == 0; r.TLS || r.Phase == PhaseHandshake {
		r.Version, r.Cipher, r.Handshake = []uint16{tls.VersionTLS12, tls.VersionTLS13}[random.IntN(2)], tls.TLS_AES_128_GCM_SHA256, time.Duration(1+random.Int64N(1e9))
	}
	if !r.TLS && random.IntN(2) == 0 {
		r.Version = 0
	}
	for range random.IntN(3) {
		r.Dials = append(r.Dials, time.Duration(1+random.Int64N(12e9)))
	}
	return r
}

// addLine counts a session by its line.
func addLine(t *Totals, line map[string]any) {
	text := func(name string) string { s, _ := line[name].(string); return s }
	number := func(name string) float64 { n, _ := line[name].(float64); return n }
	listener := text("listener")
	t.Sessions[SessionKey{listener, Outcome(text("outcome"))}]++
	if kind := text("violation"); kind != "" {
		t.Violations[kind]++
	}
	t.Messages[listener] += int64(number("messages"))
	t.BytesIn[listener] += int64(number("bytes_in"))
	t.BytesOut[listener] += int64(number("bytes_out"))
	t.LeftOut += int64(number("proxy_left_out"))
	t.DialSeconds.Sum += number("dial")
	if text("tls_cipher") != "" {
		t.Handshakes[HandshakeKey{listener, text("tls_version"), "ok"}]++
		t.HandshakeSeconds.add(time.Duration(math.Round(number("handshake") * 1e9)))
	} else if text("phase") == string(PhaseHandshake) {
		t.Handshakes[HandshakeKey{listener, text("tls_version"), "failed"}]++
	}
}

// A look from outside is not changed by what comes later, and has all that a
// first session would bring.
func TestTotalsAreACopy(t *testing.T) {
	var c Counters
	before := c.Totals()
	if len(before.DialSeconds.Bounds) == 0 || len(before.DialSeconds.Counts) != len(before.DialSeconds.Bounds) {
		t.Errorf("no bounds: %+v", before.DialSeconds)
	}
	c.SessionEnded(&Record{Listener: "a", Outcome: Completed, TLS: true, Version: tls.VersionTLS13, Handshake: time.Millisecond, Dials: []time.Duration{1, 2}})
	if !reflect.DeepEqual(before, new(Counters).Totals()) {
		t.Errorf("changed: %+v", before)
	}
	after := c.Totals()
	if after.Handshakes[HandshakeKey{"a", "TLS 1.3", "ok"}] != 1 || after.HandshakeSeconds.Count != 1 || after.DialSeconds.Count != 2 {
		t.Errorf("%+v", after)
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram()
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 30 * time.Millisecond, 10 * time.Second, 11 * time.Second} {
		h.add(d)
	}
	want := []uint64{2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5}
	if !reflect.DeepEqual(h.Counts, want) || h.Count != 6 || math.Abs(h.Sum-21.032) > 1e-6 {
		t.Errorf("%v, %d, %v", h.Counts, h.Count, h.Sum)
	}
}

// A handshake that was begun is counted, with the version if one was agreed.
func TestHandshakesAreCounted(t *testing.T) {
	testPair()
	for _, c := range []struct {
		name   string
		client *tls.Config
		broken bool // the server has no certificate
		want   HandshakeKey
	}{
		{"good", &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org"}, false, HandshakeKey{"test", "TLS 1.3", "ok"}},
		{"good, older", &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org", MaxVersion: tls.VersionTLS12}, false, HandshakeKey{"test", "TLS 1.2", "ok"}},
		{"too old", &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false, HandshakeKey{"test", "", "failed"}},
		{"not trusted", &tls.Config{ServerName: "mail.example.org"}, false, HandshakeKey{"test", "TLS 1.3", "failed"}},
		{"no certificate", &tls.Config{RootCAs: testPair().pool, ServerName: "mail.example.org"}, true, HandshakeKey{"test", "", "failed"}},
	} {
		r := newRig(t, rigConfig{mode: Implicit, noCert: c.broken, down: true})
		var counters Counters
		tls.Client(r.dial(), c.client).Handshake()
		rec := <-r.records
		counters.SessionEnded(&rec)
		if got := counters.Totals().Handshakes; !reflect.DeepEqual(got, map[HandshakeKey]int64{c.want: 1}) {
			t.Errorf("%s: %v, want %v (%v)", c.name, got, c.want, rec.Err)
		}
	}
}
