package config

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"
)

// defaults is what holds for every key that is not written.
func defaults() Config {
	return Config{
		ACME:    defaultACME(),
		Storage: Storage{Type: "file", Path: "/var/lib/smtpseal", Prefix: "smtpseal"},
		TLS:     TLS{Policy: "intermediate", SessionTickets: "per_process"},
		Limits:  Limits{MaxSessions: 10000, MaxSessionsPerClient: 50},
		Timeouts: Timeouts{
			Cleartext: 30 * time.Second,
			Handshake: 10 * time.Second,
			Dial:      10 * time.Second,
			Greeting:  30 * time.Second,
			Command:   5 * time.Minute,
			Body:      3 * time.Minute,
			Reply:     10 * time.Minute,
			Session:   24 * time.Hour,
			Shutdown:  60 * time.Second,
		},
		Admin: Admin{Listen: []Address{AdminDefault}},
		Log:   Log{Level: "info", Format: "auto"},
	}
}

var policies = choices{words: []string{"modern", "intermediate", "legacy"}}

// curves are the key exchanges that crypto/tls has, as its documentation
// spells them.
var curves = []string{
	"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519", "P-256", "P-384", "P-521",
}

var tlsFields = []field[TLS]{
	{name: "policy", read: func(v value, t *TLS) { v.choose(&t.Policy, policies) }},
	{name: "min_version", read: func(v value, t *TLS) {
		v.choose(&t.MinVersion, choices{words: []string{"1.0", "1.1", "1.2", "1.3"}, optional: true})
	}},
	{name: "cipher_suites", read: func(v value, t *TLS) { v.chooseAll(&t.CipherSuites, cipherSuites()) }},
	{name: "curves", read: func(v value, t *TLS) { v.chooseAll(&t.Curves, choices{words: curves}) }},
	{name: "session_tickets", read: func(v value, t *TLS) {
		v.choose(&t.SessionTickets, choices{words: []string{"per_process", "shared", "off"}})
	}},
}

// cipherSuites are those that crypto/tls lets a server choose: none of TLS 1.3,
// where all are good and the choice is not ours, and never RC4, which it has
// but nobody should.
func cipherSuites() choices {
	c := choices{write: "write a name of TLS 1.2 as Go spells it, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; " +
		"those of TLS 1.3 cannot be chosen, and RC4 is not to be had"}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS12) && !strings.Contains(suite.Name, "_RC4_") {
			c.words = append(c.words, suite.Name)
		}
	}
	return c
}

// The bounds keep a slipped digit from taking more memory, or holding it for
// longer, than any machine has; they are no advice.
const (
	mostSessions   = 1_000_000
	mostHandshakes = 65_536
)

var limitFields = []field[Limits]{
	{name: "max_sessions", read: func(v value, l *Limits) { v.integer(&l.MaxSessions, 1, mostSessions) }},
	{name: "max_sessions_per_client", read: func(v value, l *Limits) { v.integer(&l.MaxSessionsPerClient, 1, mostSessions) }},
	{name: "max_handshakes", read: func(v value, l *Limits) { v.integer(&l.MaxHandshakes, 0, mostHandshakes) }},
}

var timeoutFields = []field[Timeouts]{
	{name: "cleartext", read: func(v value, t *Timeouts) { v.duration(&t.Cleartext, 10*time.Minute) }},
	{name: "handshake", read: func(v value, t *Timeouts) { v.duration(&t.Handshake, 5*time.Minute) }},
	{name: "dial", read: func(v value, t *Timeouts) { v.duration(&t.Dial, 5*time.Minute) }},
	{name: "greeting", read: func(v value, t *Timeouts) { v.duration(&t.Greeting, 10*time.Minute) }},
	{name: "command", read: func(v value, t *Timeouts) { v.duration(&t.Command, time.Hour) }},
	{name: "body", read: func(v value, t *Timeouts) { v.duration(&t.Body, time.Hour) }},
	{name: "reply", read: func(v value, t *Timeouts) { v.duration(&t.Reply, time.Hour) }},
	{name: "session", read: func(v value, t *Timeouts) { v.duration(&t.Session, 168*time.Hour) }},
	{name: "shutdown", read: func(v value, t *Timeouts) { v.duration(&t.Shutdown, time.Hour) }},
}

var logFields = []field[Log]{
	{name: "level", read: func(v value, l *Log) {
		v.choose(&l.Level, choices{words: []string{"debug", "info", "warn", "error"}})
	}},
	{name: "format", read: func(v value, l *Log) {
		v.choose(&l.Format, choices{words: []string{"auto", "console", "json"}})
	}},
}
