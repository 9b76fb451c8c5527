package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/certs"
	"smtpseal/certs/storage"
	"smtpseal/config"
)

// listed runs certs list --json.
func listed(t *testing.T, file string) (code int, lines []certificateLine) {
	t.Helper()
	code, stdout, stderr := command("certs", "list", "--json", "-c", file)
	if err := json.Unmarshal([]byte(stdout), &lines); err != nil {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	return code, lines
}

// makeInternal uses the storage as run would, so that what there is of the internal CA is there.
func makeInternal(t *testing.T, storageDir string, names ...string) (*certs.Source, storage.Store) {
	t.Helper()
	store, err := storage.Open(t.Context(), storage.Options{Type: "file", Path: storageDir})
	if err != nil {
		t.Fatal(err)
	}
	source, err := certs.Open(t.Context(), certs.Options{Entries: []certs.Entry{{Internal: true, Names: names}}, Storage: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close(); store.Close() })
	return source, store
}

func TestLookingMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	file := write(t, "internal.yaml", settings(":465", "127.0.0.1:25", internalIn(dir)))
	for _, line := range []string{"list", "tlsa", "export localhost"} {
		args := append([]string{"certs"}, strings.Fields(line)...)
		if code, stdout, stderr := command(append(args, "-c", file)...); code != 1 {
			t.Errorf("%s: exit %d\n%s%s", line, code, stdout, stderr)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Fatalf("%s made the storage: %v", line, err)
		}
	}
	code, lines := listed(t, file)
	if code != 1 || len(lines) != 1 || lines[0].Names[0] != "localhost" || !strings.Contains(lines[0].Problem, "no root yet") {
		t.Errorf("exit %d, %+v", code, lines)
	}
	makeInternal(t, dir, "localhost")
	if code, lines = listed(t, file); code != 0 || lines[0].Serial == "" || lines[0].Problem != "" {
		t.Errorf("exit %d, %+v", code, lines)
	}
}

// What cannot be loaded is a line of the table, not its end.
func TestListShowsTheGoodBesideTheBad(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "good.example.org")
	junk := write(t, "junk.pem", "no PEM")
	file := write(t, "c.yaml", settings(":465", "127.0.0.1:25", filesOf(junk, key), fmt.Sprintf("  - {cert_file: %q, key_file: %q}", cert, key)))
	code, stdout, stderr := command("certs", "list", "-c", file)
	if code != 1 || stderr != "" || !strings.Contains(stdout, "good.example.org") || !strings.Contains(stdout, "\n"+junk+": ") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// rsaPair is pairFor's with an RSA key.
func rsaPair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(twoMonths)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "rsa.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(t, "rsa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})))
}

func TestExportOfATypeOfKey(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "mail.example.org")
	rsaCert, rsaKey := rsaPair(t, "mail.example.org")
	file := write(t, "c.yaml", settings(":465", "127.0.0.1:25", filesOf(cert, key), fmt.Sprintf("  - {cert_file: %q, key_file: %q}", rsaCert, rsaKey)))
	for keyType, isRSA := range map[string]bool{"": false, "p256": false, "rsa2048": true} {
		written := filepath.Join(t.TempDir(), "key.pem")
		code, stdout, stderr := command("certs", "export", "mail.example.org", "--key", written, "--key-type", keyType, "-c", file)
		secret, _ := os.ReadFile(written)
		pair, err := tls.X509KeyPair([]byte(stdout), secret)
		if code != 0 || err != nil {
			t.Fatalf("%q: exit %d, %v: %s", keyType, code, err, stderr)
		}
		if _, ecdsa := pair.PrivateKey.(*ecdsa.PrivateKey); ecdsa == isRSA {
			t.Errorf("%q: %T", keyType, pair.PrivateKey)
		}
	}
	for keyType, want := range map[string]string{"rsa4096": "there is: p256, rsa2048", "dsa": "unknown key type"} {
		if code, stdout, stderr := command("certs", "export", "mail.example.org", "--key-type", keyType, "-c", file); code != 1 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("exit %d: %s%s", code, stdout, stderr)
		}
	}
	if code, _, _ := command("certs", "export", "--root", "--key-type", "p256", "-c", file); code != 2 {
		t.Errorf("--root and a type: exit %d", code)
	}
}

func TestPortsThatAreNone(t *testing.T) {
	for _, line := range []string{"tlsa --port 99999", "tlsa --port 25,0", "tlsa --port -1", "tlsa --port smtp", "roll mail.example.org --port 65536"} {
		code, stdout, stderr := command(append([]string{"certs"}, strings.Fields(line)...)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, "port") || !strings.Contains(stderr, "--help") {
			t.Errorf("%s: exit %d: %s%s", line, code, stdout, stderr)
		}
	}
}

// A name that is not there is found out before the first order: a typing error
// should not cost one of five a week.
func TestRenewOfUnknownNamesOrdersNothing(t *testing.T) {
	dir := t.TempDir()
	makeInternal(t, dir, "localhost")
	file := write(t, "c.yaml", settings(":465", "127.0.0.1:25", internalIn(dir)))
	_, before := listed(t, file)
	code, stdout, stderr := command("certs", "renew", "localhost", "lokalhost", "other.example.org", "-c", file)
	if code != 1 || stdout != "" || strings.Contains(stderr, "renewing") ||
		strings.Count(stderr, "smtpseal: renew: no certificate is obtained for lokalhost; there are: localhost\n") != 1 || strings.Count(stderr, "other.example.org") != 1 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if _, after := listed(t, file); after[0].Serial != before[0].Serial {
		t.Error("it was renewed")
	}
	if code, _, stderr = command("certs", "renew", "localhost", "-c", file); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, after := listed(t, file); after[0].Serial == before[0].Serial {
		t.Error("it was not renewed")
	}
}

// One failure is one line. A port that somebody has is told before, since the CA
// asks there. The list has the error, and when it was met.
func TestRenewSaysWhatIsInTheWay(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	file := write(t, "c.yaml", settings(":465", "127.0.0.1:25", fmt.Sprintf(
		"storage: {path: %q}\ncertificates: [{names: [mail.example.org]}]\nacme:\n  {directory: \"https://%s/dir\", http_listen: %q, challenges: [http-01]}",
		t.TempDir(), away.Addr(), taken.Addr())))
	code, stdout, stderr := command("certs", "renew", "mail.example.org", "-c", file)
	for text, times := range map[string]int{
		"note: listen " + taken.Addr().String() + " (http-01): address already in use: fine if a running smtpseal": 1,
		"ss -ltnp 'sport = :" + port + "'": 1,
		"connection refused":               1,
		"next_try_in":                      0,
		"ERROR":                            0,
	} {
		if strings.Count(stderr, text) != times {
			t.Errorf("%q is not there %d times", text, times)
		}
	}
	if t.Failed() || code != 1 || stdout != "" {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	code, lines := listed(t, file)
	if code != 1 || lines[0].LastTry == nil || time.Since(*lines[0].LastTry) > time.Minute || !strings.Contains(lines[0].LastError, "connection refused") {
		t.Errorf("exit %d, %+v", code, lines)
	}
	if _, stdout, _ := command("certs", "list", "-c", file); !strings.Contains(stdout, "(tried "+time.Now().UTC().Format("2006-01-02 ")) {
		t.Errorf("list says\n%s", stdout)
	}
}

func TestNoteOfAPortSaysWhatToDo(t *testing.T) {
	addr := config.Address{Network: "tcp", Addr: ":80"}
	for err, want := range map[error]string{
		syscall.EADDRINUSE: "who has the port: ss -ltnp 'sport = :80'",
		syscall.EACCES:     "without one, run this as a user who may open the port",
	} {
		note := noteTaken("http-01", addr, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)})
		if !strings.HasPrefix(note, "listen :80 (http-01): "+err.Error()+": fine if a running smtpseal") || !strings.HasSuffix(note, want) {
			t.Error(note)
		}
	}
}
