package certs

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sclient lets OpenSSL shake hands and returns what it printed.
func sclient(t testing.TB, addr string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-connect", addr}, args...)...)
	cmd.Stdin = strings.NewReader("")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func TestOpenSSLVerifiesInternalLeaves(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, Options{Entries: inside("mail.internal", "*.lab.internal", "127.0.0.1"), Storage: disk(dir)})
	addr := serve(t, config(t, s, Policy{}))
	root, err := s.RootPEM()
	must(t, err)
	ca := filepath.Join(dir, "root.pem")
	writeFile(t, ca, root)
	for _, c := range []struct {
		args []string
		good bool
	}{
		{[]string{"-servername", "mail.internal", "-verify_hostname", "mail.internal"}, true},
		{[]string{"-servername", "printer.lab.internal", "-verify_hostname", "printer.lab.internal"}, true},
		{[]string{"-noservername", "-verify_ip", "127.0.0.1"}, true},
		{[]string{"-servername", "mail.internal", "-verify_hostname", "other.internal"}, false},
		{[]string{"-noservername", "-verify_hostname", "unknown.internal"}, false},
	} {
		args := append([]string{"-CAfile", ca, "-verify_return_error", "-x509_strict", "-purpose", "sslserver"}, c.args...)
		out, err := sclient(t, addr, args...)
		if good := err == nil && strings.Contains(out, "Verify return code: 0 (ok)"); good != c.good {
			t.Errorf("%q: %v\n%s", c.args, err, out)
		}
	}
}

// Printers and scanners are not Go clients: what a policy says, OpenSSL must
// see too.
func TestOpenSSLSeesThePolicies(t *testing.T) {
	s, _ := source(t)
	addrs := map[string]string{}
	for _, name := range []string{"modern", "intermediate", "legacy"} {
		addrs[name] = serve(t, config(t, s, Policy{Name: name}))
	}
	old := "DEFAULT@SECLEVEL=0"
	for _, c := range []struct {
		policy string
		args   []string
		says   string // empty: refused
	}{
		{"modern", []string{"-tls1_3"}, "TLSv1.3"},
		{"modern", []string{"-tls1_2"}, ""},
		{"intermediate", []string{"-tls1_3"}, "TLSv1.3"},
		{"intermediate", []string{"-tls1_2"}, "TLSv1.2"},
		{"intermediate", []string{"-tls1_1", "-cipher", old}, ""},
		{"intermediate", []string{"-tls1", "-cipher", old}, ""},
		{"intermediate", []string{"-tls1_2", "-cipher", "AES128-SHA"}, ""},
		{"legacy", []string{"-tls1_1", "-cipher", old}, "TLSv1.1"},
		{"legacy", []string{"-tls1", "-cipher", old}, "TLSv1"},
		{"legacy", []string{"-tls1", "-cipher", "AES128-SHA@SECLEVEL=0"}, "AES128-SHA"},
		{"legacy", []string{"-tls1_2", "-cipher", "AES128-SHA"}, "AES128-SHA"},
		{"legacy", []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"}, "ECDHE-ECDSA-AES256-SHA"},
		{"legacy", []string{"-tls1_3"}, "TLSv1.3"},
		{"intermediate", []string{"-tls1_2", "-alpn", "http/1.1"}, ""},
		{"intermediate", []string{"-alpn", "h2,http/1.1"}, ""},
		{"intermediate", []string{"-alpn", "smtp"}, "ALPN protocol: smtp"},
		{"intermediate", nil, "No ALPN negotiated"},
	} {
		out, err := sclient(t, addrs[c.policy], c.args...)
		agreed := err == nil && !strings.Contains(out, "Cipher is (NONE)")
		if agreed != (c.says != "") || !strings.Contains(out, c.says) {
			t.Errorf("%s, %q: %v\n%s", c.policy, c.args, err, out)
		}
	}
}
