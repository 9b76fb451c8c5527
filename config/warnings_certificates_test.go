package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const listenersAndBackends = `
listeners:
  - {listen: ":465", tls: implicit}
backends:
  mta: {preset: postfix, servers: ["127.0.0.1:10025"]}
`

// TestCertificateWarnings pins what is allowed around certificates and most
// likely not meant.
func TestCertificateWarnings(t *testing.T) {
	const names = "certificates: [{names: [mail.example.org]}]\n"
	const email = "acme: {email: postmaster@example.org"
	for _, c := range []struct {
		name, file string
		want       [][]string // in each warning, these
	}{
		{"by ACME", names + email + "}", nil},
		{"by the internal CA, which needs nothing", "certificates: [{names: [localhost], internal: true}]", nil},
		{"no email", names, [][]string{{"acme: no email", "Write acme.email"}}},
		{"no email, but no ACME either", "certificates: [{cert_file: a, key_file: b}]\nacme: {alert_days: 3}", nil},
		{"a CA for trying out", names + email + `, directory: "https://acme-staging-v02.api.letsencrypt.org/directory"}`,
			[][]string{{"acme-staging-v02", "no client trusts"}}},
		{"names that no public CA may certify",
			"certificates: [{names: [mail.internal, mailhost, 10.0.0.1, \"::1\", a.test, b.local, mail.example.org, 192.0.2.1, c.localhost.org]}]\n" + email + "}",
			[][]string{{`certificates[0]: "mail.internal"`, "api.letsencrypt.org will refuse", "internal: true", "acme.directory"},
				{`"mailhost"`}, {`"10.0.0.1"`}, {`"::1"`}, {`"a.test"`}, {`"b.local"`}}},
		{"the same names for a CA of one's own", "certificates: [{names: [mail.internal, mailhost, 10.0.0.1]}]\n" + email + `, directory: "https://ca.internal/dir"}`, nil},
		{"what smtpseal config has printed", "certificates: [{names: [localhost], internal: true}]\nstorage: {type: redis, url: \"********\", encryption_key: \"********\"}",
			[][]string{{"storage.url, storage.encryption_key: masked", "asterisks"}}},
		{"storage without encryption", "certificates: [{names: [localhost], internal: true}]\nstorage: {type: kubernetes}", nil},
		{"events by TLS", names + email + `, on_event: "https://example.org/hook"}`, nil},
		{"events to this machine", names + email + `, on_event: "http://127.0.0.1:8080/hook"}`, nil},
		{"events within a network", names + email + `, on_event: "http://alerts/hook"}`, nil},
		{"events within a network by address", names + email + `, on_event: "http://[fd00::1]/hook"}`, nil},
		{"events by a program", names + email + `, on_event: /usr/bin/true}`, nil},
		{"events in clear", names + email + `, on_event: "http://hooks.example.org/hook?token=1"}`,
			[][]string{{`acme.on_event: http without TLS to "hooks.example.org"`, "https://"}}},
		{"events in clear, without ACME", "certificates: [{cert_file: a, key_file: b}]\nacme: {on_event: \"http://192.0.2.1/\"}",
			[][]string{{`"192.0.2.1"`}}},
		{"no look at DNS", names + email + `, challenges: [dns-01], dns: {provider: cloudflare, api_token: x, propagation_timeout: -1s}}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			parsed, err := Parse("test", []byte(listenersAndBackends+c.file))
			if err != nil {
				t.Fatal(err)
			}
			mustWarn(t, parsed.Warnings(), c.want)
		})
	}
}

func mustWarn(t *testing.T, got []string, want [][]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d warnings: %q", len(got), got)
	}
	for i, pieces := range want {
		for _, piece := range pieces {
			if !strings.Contains(got[i], piece) {
				t.Errorf("%q is not in %q", piece, got[i])
			}
		}
	}
}

// TestSecretsThatOthersCanReadAreWarnedOf: only such as stand in the file, and
// only if the file is open.
func TestSecretsThatOthersCanReadAreWarnedOf(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no permission bits there")
	}
	const all = listenersAndBackends + `
certificates: [{names: [mail.example.org]}]
acme:
  email: postmaster@example.org
  eab: {key_id: a, hmac_key: c2VjcmV0}
  fallback: [{directory: "https://ca.example.org/", eab: {key_id: b, hmac_key: c2VjcmV0}}]
  challenges: [dns-01]
  dns: {provider: route53, access_key_id: a, secret_access_key: hunter2, session_token: "env:TOKEN", region: b}
storage: {type: redis, url: "redis://:hunter2@127.0.0.1", encryption_key: "file:/run/secrets/key"}
`
	named := [][]string{{"acme.eab.hmac_key, acme.dns.secret_access_key, acme.fallback[0].eab.hmac_key, storage.url: a secret in a file", "chmod 600", "file:PATH"}}
	elsewhere := strings.NewReplacer("hunter2", "env:X", "redis://:hunter2@127.0.0.1", "env:Y", "c2VjcmV0", `"file:z"`).Replace(all)
	file := filepath.Join(t.TempDir(), "smtpseal.yaml")
	for _, c := range []struct {
		mode os.FileMode
		text string
		want [][]string
	}{
		{0o600, all, nil}, {0o400, all, nil}, {0o640, all, named}, {0o604, all, named}, {0o644, elsewhere, nil},
	} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		loaded, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		mustWarn(t, loaded.Warnings(), c.want)
	}
}
