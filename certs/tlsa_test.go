package certs

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// opensslTLSA computes the record as the manuals of DANE tell people to.
func opensslTLSA(t *testing.T, certPEM []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cert.pem")
	writeFile(t, file, certPEM)
	key, err := exec.Command("openssl", "x509", "-in", file, "-noout", "-pubkey").Output()
	must(t, err)
	convert := exec.Command("openssl", "pkey", "-pubin", "-outform", "DER")
	convert.Stdin = bytes.NewReader(key)
	der, err := convert.Output()
	must(t, err)
	sum := sha256.Sum256(der)
	return "3 1 1 " + hex.EncodeToString(sum[:])
}

func TestTLSAIsWhatOpenSSLSays(t *testing.T) {
	ca := newPKI(t)
	for _, s := range []spec{{names: []string{"mail.example.org"}}, {names: []string{"mail.example.org"}, rsa: true}} {
		s.key = newKey(t, s.rsa)
		certPEM, _ := ca.issue(s)
		want := opensslTLSA(t, certPEM)
		for _, key := range []crypto.PublicKey{s.key.Public(), parsePEM(t, certPEM)} {
			got := TLSARecords([]string{"mail.example.org"}, []int{25}, key)
			if len(got) != 1 || got[0].String() != "_25._tcp.mail.example.org. IN TLSA "+want {
				t.Errorf("%T: %v, want %s", key, got, want)
			}
		}
	}
}

// The line goes into zone files, so a reader of zone files must find in it what
// the miekg/dns library computes of the certificate.
func TestTLSALineIsOneOfAZoneFile(t *testing.T) {
	ca := newPKI(t)
	certPEM, _ := ca.issue(spec{names: []string{"mail.example.org"}})
	leaf := parsePEM(t, certPEM)
	line, err := dns.NewRR(TLSARecords([]string{"mail.example.org"}, []int{465}, leaf)[0].String())
	must(t, err)
	record := line.(*dns.TLSA)
	if err := record.Verify(leaf); err != nil || record.Hdr.Name != "_465._tcp.mail.example.org." ||
		record.Usage != 3 || record.Selector != 1 || record.MatchingType != 1 {
		t.Errorf("%v: %v", record, err)
	}
}

func TestTLSAOfNamesThatCanHaveNone(t *testing.T) {
	key := newKey(t, false).Public()
	data, err := TLSAData(key)
	must(t, err)
	var lines []string
	for _, r := range TLSARecords([]string{"*.example.org", "192.0.2.1", "2001:db8::1", "Mail.Example.org.", "mail.example.org", "büro.example", "a b", ""},
		[]int{25, 587, 25, 0, 70000}, key) {
		lines = append(lines, r.String())
	}
	want := []string{
		"_25._tcp.mail.example.org. IN TLSA " + data, "_587._tcp.mail.example.org. IN TLSA " + data,
		"_25._tcp.xn--bro-hoa.example. IN TLSA " + data, "_587._tcp.xn--bro-hoa.example. IN TLSA " + data,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
}

func TestTLSAOfWhatIsNoKey(t *testing.T) {
	if got := TLSARecords([]string{"mail.example.org"}, []int{25}, "key"); got != nil {
		t.Errorf("got %v", got)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	if _, err := TLSAData(private); err == nil { // its hash would never match
		t.Error("took a private key")
	}
}

func parsePEM(t testing.TB, certPEM []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}
