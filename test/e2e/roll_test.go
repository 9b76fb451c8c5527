package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"smtpseal/test/bind"
	"smtpseal/test/pebble"
)

// The key of a running server is changed from the command line, with TLSA
// records in a real BIND: the next one stands beside the current one before the
// switch, a server that lacks it is a refusal, and what is served has its
// record in DNS at every moment.
func TestRollingAKeyOverKeepsDANE(t *testing.T) {
	t.Parallel()
	server := bind.Start(t, bind.Config{
		Keys:  []bind.Key{{Name: "acme", Algorithm: "hmac-sha256", Secret: tsigSecret}},
		Zones: []bind.Zone{{Name: "example.test", Policy: []string{"grant acme. zonesub TXT TLSA"}}},
	})
	ca := pebble.Start(t, pebble.Options{DNS: server.Addr()})
	secret := filepath.Join(t.TempDir(), "tsig")
	if err := os.WriteFile(secret, []byte(tsigSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := site{CA: ca, Challenges: "dns-01", Secrets: []string{tsigSecret},
		ACME: "dns: {provider: rfc2136, nameserver: '" + server.Addr() + "', resolvers: ['" + server.Addr() + "'], " +
			"tsig_name: acme, tsig_secret: 'file:" + secret + "'}"}
	path, addrs := s.file(t)
	p := s.runFile(t, path, addrs)
	p.obtained(hostname)
	roll := func(more ...string) outcome {
		return command(t, s.Secrets, append([]string{"certs", "roll", hostname, "-c", path, "--port", "25"}, more...)...)
	}
	inUse := func() string {
		leaf, err := p.leaf(submissions, hostname)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
		return "3 1 1 " + hex.EncodeToString(sum[:])
	}
	published := func() (all []string) {
		for _, r := range server.Records(t, "_25._tcp."+hostname, mdns.TypeTLSA) {
			all = append(all, strings.ToLower(r))
		}
		return all
	}
	before := inUse()

	if o := roll(); o.code != 1 || !strings.Contains(o.stdout, before) || !strings.Contains(o.stderr, "not visible everywhere") {
		t.Fatalf("nothing published: exit %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := roll("--publish", "--ttl", "2s"); o.code != 1 || !strings.Contains(o.stderr, "TTL") {
		t.Fatalf("just published: exit %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if now := published(); len(now) != 2 || !slices.ContainsFunc(now, func(r string) bool { return strings.Contains(r, before[6:]) }) {
		t.Fatalf("published %q", now)
	}
	if inUse() != before {
		t.Fatal("the key has changed too early")
	}
	time.Sleep(5 * time.Second) // two TTLs
	if o := roll(); o.code != 1 || !strings.Contains(o.stdout, "has its next key") || !strings.Contains(o.stdout, before) {
		t.Fatalf("after two TTLs: exit %d, %s%s", o.code, o.stdout, o.stderr)
	}
	until(t, "the new key to be served", 40*time.Second, func() bool { return inUse() != before })
	if now := inUse(); !slices.ContainsFunc(published(), func(r string) bool { return strings.Contains(r, now[6:]) }) {
		t.Errorf("%s is served, %q published", now, published())
	}
	until(t, "the old record to be removed", 90*time.Second, func() bool { return roll("--publish", "--ttl", "2s").code == 0 })
	if now := published(); len(now) != 1 || !strings.Contains(now[0], inUse()[6:]) {
		t.Errorf("in the end %q", now)
	}
}
