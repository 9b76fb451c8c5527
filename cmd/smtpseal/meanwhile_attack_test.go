package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"smtpseal/config"
)

// Whoever changes the CA, or the storage, by a reload has no certificate by the
// new one yet, and must not have none.
func TestAReloadToAnotherCAServesTheOldCertificateMeanwhile(t *testing.T) {
	s, file := serving(t, config.Load)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable() // which is not called before the CA is reached
	if err != nil {
		t.Fatal(err)
	}
	addr := s.now.Load().sockets.addresses()[0]
	for i := range 3 { // nor after a second one, when the first has brought nothing
		byACME := strings.Replace(string(text), "internal: true", "internal: false", 1) +
			fmt.Sprintf("\nacme: {directory: %q, challenges: [dns-01], dns: {provider: exec, command: %q}}\n", fmt.Sprintf("http://127.0.0.1:%d/", i+1), program)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(byACME, "[localhost]", "[mail.example.org]")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, err := tls.DialWithDialer(new(net.Dialer), "tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example.org"})
		if err != nil {
			t.Fatalf("reload %d: %v", i+1, err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != "localhost" {
			t.Errorf("reload %d: served for %q", i+1, got)
		}
		conn.Close()
	}
}
