package e2e

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpseal/test/pebble"
)

// certs runs a command of that family.
func certs(t *testing.T, path string, args ...string) outcome {
	t.Helper()
	return command(t, nil, slices.Concat([]string{"certs"}, args, []string{"-c", path})...)
}

// A listed certificate is what scripts get of certs list --json.
type listed struct {
	Names       []string
	Source      string
	KeyType     string `json:"key_type"`
	Issuer      string
	Serial      string
	NotAfter    *time.Time `json:"not_after"`
	DaysLeft    *int       `json:"days_left"`
	NextRenewal *time.Time `json:"next_renewal"`
	LastError   string     `json:"last_error"`
	Problem     string
}

func listJSON(t *testing.T, path string) (code int, all []listed) {
	t.Helper()
	o := certs(t, path, "list", "--json")
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil {
		t.Fatalf("certs list --json: exit %d, %v\n%s%s", o.code, err, o.stdout, o.stderr)
	}
	return o.code, all
}

// What the commands say of a certificate is what a client sees of it.
func TestCertsCommands(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{})
	s := site{CA: ca}
	path, addrs := s.file(t)
	if o := certs(t, path, "list"); o.code != 1 || !strings.Contains(o.stdout, "no certificate yet") {
		t.Errorf("list of nothing: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	certs(t, path, "export", hostname).mustFail(t, "no certificate")
	certs(t, path, "tlsa").mustFail(t, "no certificate")

	p := s.runFile(t, path, addrs)
	p.obtained(hostname)
	conn, err := p.shake(submissions, p.tls())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	chain := conn.ConnectionState().PeerCertificates
	t.Run("list", func(t *testing.T) {
		o := certs(t, path, "list")
		if o.code != 0 {
			t.Errorf("exit %d: %s", o.code, o.stderr)
		}
		for _, word := range []string{"NAMES", hostname, "acme p256", serial(chain[0]), chain[0].NotAfter.UTC().Format("2006-01-02 15:04")} {
			if !strings.Contains(o.stdout, word) {
				t.Errorf("list lacks %q:\n%s", word, o.stdout)
			}
		}
		code, all := listJSON(t, path)
		if code != 0 || len(all) != 1 {
			t.Fatalf("exit %d, %+v", code, all)
		}
		got := all[0]
		if !slices.Equal(got.Names, []string{hostname}) || got.Source != "acme" || got.KeyType != "p256" || got.Serial != serial(chain[0]) ||
			got.Issuer != chain[0].Issuer.CommonName || !got.NotAfter.Equal(chain[0].NotAfter) || *got.DaysLeft != 89 || got.Problem+got.LastError != "" ||
			!got.NextRenewal.After(time.Now().Add(24*time.Hour)) || !got.NextRenewal.Before(*got.NotAfter) {
			t.Errorf("listed %+v", got)
		}
	})
	t.Run("export", func(t *testing.T) { testExport(t, path, p, conn.ConnectionState()) })
	t.Run("tlsa", func(t *testing.T) { testTLSA(t, path, p) })
	t.Run("renew", func(t *testing.T) {
		certs(t, path, "renew", "other.example.test").mustFail(t, "other.example.test", hostname)
		o := certs(t, path, "renew", "--all")
		if o.code != 0 || !strings.Contains(o.stdout, hostname+": renewed until ") {
			t.Errorf("renew --all: exit %d\n%s%s", o.code, o.stdout, o.stderr)
		}
		_, all := listJSON(t, path)
		if issued := ca.Serials(hostname); len(issued) != 2 || all[0].Serial != issued[1] {
			t.Errorf("issued %v, listed %s", issued, all[0].Serial)
		}
	})
	for _, usage := range [][]string{{"renew"}, {"renew", "--all", hostname}, {"export"}, {"export", "--root", hostname}, {"list", "x"}, {"nonsense"}} {
		if o := certs(t, path, usage...); o.code != 2 {
			t.Errorf("certs %v: exit %d, want 2", usage, o.code)
		}
	}
}

// testExport compares with what is served, and demands that a key is written
// where nobody else can read it, and over nothing.
func testExport(t *testing.T, path string, p *process, served tls.ConnectionState) {
	key := filepath.Join(t.TempDir(), "key.pem")
	o := certs(t, path, "export", hostname, "--key", key)
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.stderr)
	}
	rest := []byte(o.stdout)
	for n, want := range served.PeerCertificates {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" || string(block.Bytes) != string(want.Raw) {
			t.Fatalf("certificate %d is not that which is served:\n%s", n, o.stdout)
		}
	}
	if len(strings.TrimSpace(string(rest))) > 0 {
		t.Errorf("more than what is served: %q", rest)
	}
	file := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(file, []byte(o.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	succeed(t, exec.Command("openssl", "verify", "-CAfile", p.rootFile, "-untrusted", file, "-verify_hostname", hostname, file))
	if _, err := tls.LoadX509KeyPair(file, key); err != nil {
		t.Error(err)
	}
	written, err := os.Stat(key)
	if err != nil || written.Mode() != 0o600 {
		t.Fatalf("key file: %v, %v", written.Mode(), err)
	}
	before, _ := os.ReadFile(key)
	again := certs(t, path, "export", hostname, "--key", key)
	again.mustFail(t, key, "file exists")
	if after, _ := os.ReadFile(key); string(after) != string(before) || again.stdout != "" {
		t.Error("the file that was there is another now, or a chain was printed without its key")
	}
	certs(t, path, "export", "other.example.test").mustFail(t, "other.example.test")
	certs(t, path, "export", "--root").mustFail(t, "internal")
}

// testTLSA lets openssl compute the record from what a client is given.
func testTLSA(t *testing.T, path string, p *process) {
	script := `openssl s_client -connect "$1" -servername "$2" </dev/null 2>/dev/null | openssl x509 -pubkey -noout |
		openssl pkey -pubin -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1`
	out, err := exec.Command("sh", "-c", script, "sh", p.addrs[submissions], hostname).Output()
	if err != nil || len(out) != 65 {
		t.Fatalf("openssl: %q, %v", out, err)
	}
	want := ""
	for _, port := range []int{465, 587} {
		want += fmt.Sprintf("_%d._tcp.%s. IN TLSA 3 1 1 %s", port, hostname, out)
	}
	if o := certs(t, path, "tlsa"); o.code != 0 || o.stdout != want {
		t.Errorf("tlsa: exit %d\n%swant\n%s%s", o.code, o.stdout, want, o.stderr)
	}
	if o := certs(t, path, "tlsa", hostname, "--port", "25"); o.stdout != fmt.Sprintf("_25._tcp.%s. IN TLSA 3 1 1 %s", hostname, out) {
		t.Errorf("tlsa --port 25: %s%s", o.stdout, o.stderr)
	}
}

// What the running process could not do is told by a command beside it, and
// its exit code says that somebody should look.
func TestCertsListTellsOfFailures(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{Validity: 4 * time.Second})
	s := site{CA: ca}
	path, addrs := s.file(t)
	ca.Answer5xx()
	p := s.runFile(t, path, addrs)
	p.wait("a failure", func() bool { return p.find(notObtained, nil) != nil })
	until(t, "the failure in the list", 10*time.Second, func() bool {
		code, all := listJSON(t, path)
		if code != 1 || all[0].Serial != "" || all[0].NotAfter != nil {
			t.Fatalf("exit %d, %+v", code, all)
		}
		return strings.Contains(all[0].LastError, "503")
	})
	o := certs(t, path, "renew", hostname)
	o.mustFail(t, hostname, "503")

	ca.Heal()
	if o := certs(t, path, "renew", hostname); o.code != 0 {
		t.Fatalf("renew: exit %d\n%s", o.code, o.stderr)
	}
	if _, all := listJSON(t, path); all[0].Serial == "" || all[0].LastError != "" {
		t.Errorf("behind a success: %+v", all)
	}
	if err := ca.Down(); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of the certificate", 10*time.Second, func() bool {
		code, all := listJSON(t, path)
		return code == 1 && strings.Contains(all[0].Problem, "expired on ")
	})
	if o := certs(t, path, "list"); o.code != 1 || !strings.Contains(o.stdout, hostname+": expired on ") {
		t.Errorf("exit %d:\n%s", o.code, o.stdout)
	}
}

// The internal CA's root is what clients are given to trust.
func TestCertsExportRoot(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: "127.0.0.1:1"})
	o := certs(t, p.command.Args[len(p.command.Args)-1], "export", "--root")
	want, err := os.ReadFile(p.rootFile)
	if err != nil {
		t.Fatal(err)
	}
	if o.code != 0 || o.stdout != string(want) {
		t.Errorf("exit %d: %s\n%s", o.code, o.stderr, o.stdout)
	}
}
