package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pairFor makes a certificate and its key, and returns their files.
func pairFor(t *testing.T, notAfter time.Time, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]},
		DNSNames: names, NotBefore: notAfter.Add(-90 * 24 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = write(t, "tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = write(t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, key
}

// settings is a configuration with one listener and the given further lines.
func settings(listen, backend string, more ...string) string {
	return fmt.Sprintf("listeners:\n  - {name: one, listen: %q, tls: implicit, backend: mta}\n"+
		"backends:\n  mta: {servers: [%q], proxy_protocol: v2, health: {interval: off}, relay_check: off}\nadmin: {listen: off}\n", listen, backend) + strings.Join(more, "\n") + "\n"
}

func filesOf(cert, key string) string {
	return fmt.Sprintf("certificates:\n  - {cert_file: %q, key_file: %q}", cert, key)
}

func internalIn(dir string) string {
	return fmt.Sprintf("storage: {path: %q}\ncertificates:\n  - {names: [localhost], internal: true}", dir)
}

const twoMonths = 60 * 24 * time.Hour

func TestCheckSaysGoodAndWhatToDoNext(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "mail.example.org")
	file := write(t, "good.yaml", settings(":465", "127.0.0.1:25", filesOf(cert, key)))
	code, stdout, stderr := command("check", "-c", file)
	if want := file + ": good\nnext: smtpseal run -c " + file + "\n"; code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit %d\nstdout %q\nwant   %q\nstderr %q", code, stdout, want, stderr)
	}
}

// A file that check calls good must not stop run, so check reads what the
// configuration names; all that is bad is told at once, in the file's order.
func TestCheckJudgesTheFilesThatAreNamed(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "a.example.org")
	_, other := pairFor(t, time.Now().Add(twoMonths), "b.example.org")
	junk := write(t, "junk.pem", "no PEM")
	text := "listeners:\n" +
		"  - {listen: ':465', tls: implicit, backend: mta, client_auth: require, client_ca_file: " + junk + "}\n" +
		"backends:\n  mta: {preset: postfix, servers: ['127.0.0.1:25']}\n" +
		"certificates:\n" +
		"  - {cert_file: " + cert + ", key_file: " + key + "}\n" +
		"  - {cert_file: " + cert + ", key_file: " + other + "}\n" +
		"  - {cert_file: " + junk + ", key_file: " + key + "}\n"
	file := write(t, "bad.yaml", text)
	code, stdout, stderr := command("check", "-c", file)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if code != 1 || stdout != "" || len(lines) != 3 {
		t.Fatalf("exit %d\nstdout %q\nstderr %s", code, stdout, stderr)
	}
	for i, want := range []string{":2: listeners[0]: ", ":7: certificates[1]: ", ":8: certificates[2]: "} {
		if !strings.HasPrefix(lines[i], file+want) || !strings.Contains(lines[i], "; ") {
			t.Errorf("%q does not begin with %q, or has no remedy", lines[i], file+want)
		}
	}
}

func TestCheckWarnsOfWhatRunWouldLog(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(-time.Hour), "mail.example.org")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(settings(":465", "127.0.0.1:25", filesOf(cert, key)), "v2", "off", 1)
	file := write(t, "warned.yaml", text)
	code, stdout, stderr := command("check", "-c", file)
	if code != 0 || !strings.Contains(stdout, ": good\n") {
		t.Errorf("exit %d, stdout %q", code, stdout)
	}
	for _, want := range []string{
		file + ": warning: backend mta: proxy_protocol is off",
		file + ": warning: " + cert + ": certificate ha", // has expired
		file + ": warning: " + cert + ": private key can be read by every user of this machine; chmod",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestCheckMakesNoInternalCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "storage")
	file := write(t, "internal.yaml", settings(":465", "127.0.0.1:25", internalIn(dir)))
	if code, _, stderr := command("check", "-c", file); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("check made the storage: %v", err)
	}
}

// The shape is for scripts: lists are there and never null.
func TestCheckJSON(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "mail.example.org")
	good := write(t, "good.yaml", settings(":465", "127.0.0.1:25", filesOf(cert, key)))
	bad := write(t, "bad.yaml", "certificates: []\n")
	for _, c := range []struct {
		file string
		good bool
		code int
	}{{good, true, 0}, {bad, false, 1}, {t.TempDir(), false, 1}} {
		code, stdout, stderr := command("check", "--json", "-c", c.file)
		var v struct {
			File     *string          `json:"file"`
			Good     *bool            `json:"good"`
			Mistakes []map[string]any `json:"mistakes"`
			Warnings []string         `json:"warnings"`
		}
		decoder := json.NewDecoder(strings.NewReader(stdout))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&v); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		if code != c.code || stderr != "" || v.File == nil || *v.File != c.file || v.Good == nil || *v.Good != c.good {
			t.Errorf("exit %d, stderr %q: %s", code, stderr, stdout)
		}
		if v.Mistakes == nil || v.Warnings == nil || c.good != (len(v.Mistakes) == 0) {
			t.Errorf("lists: %s", stdout)
		}
		for _, m := range v.Mistakes {
			for _, key := range []string{"file", "line", "path", "problem", "remedy"} {
				if _, ok := m[key]; !ok {
					t.Errorf("no %q in %v", key, m)
				}
			}
		}
	}
}

func TestConfigPrintsAFileThatCheckFindsGood(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "mail.example.org")
	file := write(t, "short.yaml", settings(":465", "127.0.0.1:25", filesOf(cert, key)))
	code, effective, stderr := command("config", "-c", file)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"max_sessions: 10000", "cleartext: 30s", "policy: intermediate"} {
		if !strings.Contains(effective, want) {
			t.Errorf("default %q is not filled in:\n%s", want, effective)
		}
	}
	again := write(t, "effective.yaml", effective)
	if code, stdout, stderr := command("check", "-c", again); code != 0 {
		t.Errorf("check of config's output: exit %d: %s%s", code, stdout, stderr)
	}
	if _, twice, _ := command("config", "-c", again); twice != effective {
		t.Errorf("config of config's output differs:\n%s\n%s", effective, twice)
	}
}

func TestPlaceIsTheLineOfAnItem(t *testing.T) {
	file := write(t, "c.yaml", "# one\ncertificates:\n  - a: 1\n\n  - b: 2\n  - c:\n      3\nother: [x,\n  y]\n")
	for _, c := range []struct {
		list string
		item int
		want int
	}{{"certificates", 0, 3}, {"certificates", 1, 5}, {"certificates", 2, 6}, {"other", 1, 9},
		{"certificates", 3, 2}, {"none", 0, 0}} {
		if got := place(file, fmt.Sprintf("%s[%d]", c.list, c.item)); got != c.want {
			t.Errorf("%s[%d]: line %d, want %d", c.list, c.item, got, c.want)
		}
	}
	for _, text := range []string{"", "- a\n", "{", "[certificates]"} {
		if got := place(write(t, "x.yaml", text), "certificates[0]"); got != 0 {
			t.Errorf("%q: line %d", text, got)
		}
	}
}

// What run would stumble over is said by check: a secret that is not there, a
// file that acme names. Each on a line of its own.
func TestCheckResolvesSecrets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "smtpseal.yaml")
	write := func(acme string) {
		t.Helper()
		text := `listeners: [{listen: "127.0.0.1:465", tls: implicit, backend: mta}]
backends: {mta: {preset: postfix, servers: ["127.0.0.1:25"]}}
certificates: [{names: [mail.example.org]}]
storage: {path: ` + dir + `, encryption_key: "file:` + dir + `/key"}
acme: {email: a@example.org, ` + acme + "}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for acme, want := range map[string]string{
		"trusted_roots: " + dir + "/roots.pem":                                                       "roots.pem",
		`challenges: [dns-01], dns: {provider: cloudflare, api_token: "env:SMTPSEAL_NO_SUCH_TOKEN"}`: "acme.dns.api_token",
	} {
		write(acme)
		code, _, stderr := command("check", "-c", file)
		for _, part := range []string{"storage.encryption_key", want} {
			if code != 1 || !strings.Contains(stderr, part) {
				t.Errorf("exit %d, said %q, want %q in it", code, stderr, part)
			}
		}
	}
}
