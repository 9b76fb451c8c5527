package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	mdns "github.com/miekg/dns"

	"smtpseal/test/bind"
	"smtpseal/test/pebble"
)

// The secrets of a directory and of a name server, as an operator has them.
const (
	hmacKey    = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	tsigSecret = "dGhpcyBpcyB0aGUgc2VjcmV0IG9mIHRoZSB0ZXN0cyE="
)

// By either challenge of a port of ours, with an account that the CA knows
// already, a process gets its certificate, and with it mail comes through by
// both doors. Whom curl and openssl trust is the CA's root alone.
func TestCertificateByAPortOfOurs(t *testing.T) {
	t.Parallel()
	for n, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{EAB: map[string]string{"kid-1": hmacKey}})
			p := site{CA: ca, Server: mailbox.Addr("proxy"), Challenges: challenge,
				ACME: "eab: {key_id: kid-1, hmac_key: " + hmacKey + "}", Secrets: []string{hmacKey}}.run(t)
			p.obtained(hostname)
			mailByBothDoors(t, p, n)
			if accounts := ca.Accounts(); len(accounts) != 1 || !accounts[0].EAB {
				t.Errorf("accounts %+v", accounts)
			}
		})
	}
}

// By DNS-01 no port of ours is needed: the records go to a real BIND, by its
// TSIG key. A wildcard and its apex have the same record's name, at once; the
// third name is delegated into a zone that is for this alone.
func TestCertificatesByDNS(t *testing.T) {
	t.Parallel()
	txtOnly := []string{"grant acme. zonesub TXT"}
	server := bind.Start(t, bind.Config{
		Keys: []bind.Key{{Name: "acme", Algorithm: "hmac-sha256", Secret: tsigSecret}},
		Zones: []bind.Zone{
			{Name: "example.test", Policy: txtOnly, Records: "_acme-challenge.mail CNAME mail.challenges.test."},
			{Name: "challenges.test", Policy: txtOnly},
			// Makes it follow the CNAME for the CA, as resolvers do, without a cache.
			{Name: "unused.test", Forward: "127.0.0.1:1"},
		},
	})
	ca := pebble.Start(t, pebble.Options{DNS: server.Addr()})
	secret := filepath.Join(t.TempDir(), "tsig")
	if err := os.WriteFile(secret, []byte(tsigSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names := []string{"*.example.test", "example.test", hostname}
	p := site{CA: ca, Server: mailbox.Addr("proxy"), Names: names, Challenges: "dns-01", Secrets: []string{tsigSecret},
		ACME: "dns: {provider: rfc2136, nameserver: '" + server.Addr() + "', resolvers: ['" + server.Addr() + "'], " +
			"tsig_name: acme, tsig_secret: 'file:" + secret + "'}"}.run(t)
	p.obtained(names...)
	mailByBothDoors(t, p, 2)
	for asked, want := range map[string]string{"any.example.test": names[0], "example.test": names[1], hostname: hostname} {
		leaf, err := p.leaf(submission, asked)
		if err != nil {
			t.Fatalf("%s: %v", asked, err)
		}
		if leaf.DNSNames[0] != want {
			t.Errorf("%s gets the certificate of %v, want %s", asked, leaf.DNSNames, want)
		}
	}
	for _, name := range []string{"_acme-challenge.example.test", "mail.challenges.test"} {
		if left := server.Records(t, name, mdns.TypeTXT); len(left) > 0 {
			t.Errorf("%s has %q left", name, left)
		}
	}
	if n := ca.FinalizedOrders(); n != len(names) {
		t.Errorf("%d orders for %d names", n, len(names))
	}
}

// mailByBothDoors sends a mail by each of two tools through each listener. The
// nth test has clients' addresses of its own.
func mailByBothDoors(t *testing.T, p *process, n int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		t.Fatal(err)
	}
	from := 10 * n
	for _, listener := range []string{submissions, submission} {
		for name, send := range map[string]tool{"curl": curl, "s_client": sClient} {
			from++
			address := fmt.Sprintf("127.0.7.%d", from)
			to := recipient("acme-" + name)
			send(t, p, listener, address, "", to, file)
			check(t, p, listener, address, "", to)
		}
	}
}
