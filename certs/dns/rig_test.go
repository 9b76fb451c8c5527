package dns

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"smtpseal/test/bind"
)

// tsigSecret is what no log line and no error may contain.
const tsigSecret = "dGhpcyBpcyB0aGUgc2VjcmV0IG9mIHRoZSB0ZXN0cyE="

var (
	tsigKey = bind.Key{Name: "acme", Algorithm: "hmac-sha256", Secret: tsigSecret}
	txtOnly = []string{"grant acme. zonesub TXT"}
)

// logger collects all that is logged at debug level, and fails the test if a
// secret is in it.
func logger(t *testing.T, secrets ...string) (*zap.Logger, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zapcore.DebugLevel)
	t.Cleanup(func() {
		for _, line := range lines.All() {
			encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"})
			text, err := encoder.EncodeEntry(line.Entry, line.Context)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range secrets {
				if strings.Contains(text.String(), secret) {
					t.Errorf("a secret is in the log: %s", text)
				}
			}
		}
	})
	return zap.New(core), lines
}

// open makes a provider, whose log must not have its secrets.
func open(t *testing.T, name string, settings Settings) Provider {
	t.Helper()
	var secrets []string
	for _, key := range Providers[name].Keys {
		if key.Secret && settings[key.Name] != "" {
			secrets = append(secrets, settings[key.Name])
		}
	}
	log, _ := logger(t, secrets...)
	provider, err := Open(name, settings, log)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// signed is the rfc2136 provider for a server with tsigKey.
func signed(t *testing.T, addr string) Provider {
	t.Helper()
	return open(t, "rfc2136", Settings{"nameserver": addr, "tsig_name": "acme", "tsig_secret": tsigSecret})
}

// solver is one that waits for little.
func solver(t *testing.T, options Options) *Solver {
	t.Helper()
	if options.Log == nil {
		options.Log, _ = logger(t, tsigSecret)
	}
	if options.PropagationTimeout == 0 {
		options.PropagationTimeout = 20 * time.Second
	}
	s, err := NewSolver(options)
	if err != nil {
		t.Fatal(err)
	}
	s.poll = 50 * time.Millisecond
	return s
}

// routed has a solver reach port 53 of some addresses at test servers, and
// nobody at the others. The system's resolver is system.
func routed(s *Solver, system string, routes map[string]string) *Solver {
	var direct net.Dialer
	s.system = func() []string { return []string{system} }
	s.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, _ := net.SplitHostPort(addr)
		if port == "53" {
			addr = routes[host]
		}
		if addr == "" {
			addr = "127.0.0.1:1" // refuses
		}
		return direct.DialContext(ctx, network, addr)
	}
	return s
}

// challenge is one for a name; seed makes its value.
func challenge(name, seed string) acme.Challenge {
	return acme.Challenge{
		Type:             acme.ChallengeTypeDNS01,
		KeyAuthorization: seed + ".thumbprint",
		Identifier:       acme.Identifier{Type: "dns", Value: name},
	}
}

func texts(t *testing.T, server *bind.Server, name string, want ...acme.Challenge) {
	t.Helper()
	var values []string
	for _, one := range want {
		values = append(values, one.DNS01KeyAuthorization())
	}
	slices.Sort(values)
	if got := server.Records(t, name, dns.TypeTXT); !slices.Equal(got, values) {
		t.Errorf("%s has %q, want %q", name, got, values)
	}
}

func good(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says checks an error's text: all of parts, and no secret.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), tsigSecret) {
		t.Errorf("the secret is in the error: %v", err)
	}
}
