package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"smtpseal/cmd/smtpseal/recipe"
)

// cooked writes a configuration with backends as given, and returns its file.
func cooked(t *testing.T, backends string) string {
	t.Helper()
	return write(t, "smtpseal.yaml", `hostname: mx.example.net
listeners:
  - {name: people, listen: ["127.0.0.1:465", ":1465", "unix:/run/465.sock"], tls: implicit, backend: mta, accept_proxy: [unix]}
  - {name: servers, listen: ":25", tls: starttls-optional, backend: mta}
certificates: [{names: [mail.example.org], internal: true}]
backends:
`+backends)
}

func TestRecipeIsFilledInFromTheFile(t *testing.T) {
	file := cooked(t, "  mta: {preset: exim, servers: ['10.0.0.2:2525']}\n")
	code, stdout, stderr := command("recipe", "exim", "-c", file, "--from", "10.0.0.1")
	words := strings.Join(strings.Fields(strings.ReplaceAll(stdout, "#", "")), " ") // of prose that wraps
	if code != 0 || stderr != "" || !strings.Contains(words, "smtpseal recipe exim, for the backend mta of "+file+", for its listeners people and servers") || !containsAll(stdout, []string{
		"daemon_smtp_ports = 25 : 2525\n", "{={$received_port}{2525}}}{10.0.0.1}{}}", "auth_advertise_hosts = ",
		"#   smtpseal check -c " + file + "\n", "#   smtpseal certs export -c " + file + " --root > root.pem\n",
		"#   smtpseal probe mx.example.net mx.example.net:1465 --ca root.pem\n",
		"#   swaks --server mx.example.net:465 -tlsc --auth --auth-user NAME --from ADDRESS --to ADDRESS\n",
	}) {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// Without --from it is the address that this machine would take.
func TestRecipeFindsTheSource(t *testing.T) {
	for server, want := range map[string]string{"127.0.0.1:10025": "127.0.0.1", "[::1]:10025": "::1", "localhost:10025": "127.0.0.1", "127.0.0.9:10025": "127.0.0.1"} {
		file := cooked(t, fmt.Sprintf("  mta: {preset: dovecot, servers: [%q]}\n", server))
		code, stdout, stderr := command("recipe", "dovecot", "-c", file)
		if code != 0 || !strings.Contains(stdout, "haproxy_trusted_networks = "+want+"\n") {
			t.Errorf("%s: exit %d\n%s%s", server, code, stdout, stderr)
		}
	}
}

func TestRecipeChoosesTheBackend(t *testing.T) {
	const several = `  mta: {preset: postfix, servers: ["127.0.0.1:10025"]}
  old: {preset: postfix-old, servers: ["127.0.0.1:10026"]}
  exim: {preset: exim, servers: ["127.0.0.1:10027"]}
  any: {proxy_protocol: v2, servers: ["127.0.0.1:10028"]}
`
	for _, c := range []struct {
		line     string
		backends string
		port     string   // of the backend that the recipe is for
		want     []string // or of the error
	}{
		{"exim", several, "10027", nil},
		{"postfix-old", several, "10026", nil},
		{"postfix --backend mta", several, "10025", nil},
		{"opensmtpd --backend any", several, "10028", nil},
		{"opensmtpd", "  mta: {proxy_protocol: v2, servers: ['127.0.0.1:10029']}\n", "10029", nil},
		{"postfix", several, "", []string{"which backend", "--backend mta, or --backend old\n"}},
		{"opensmtpd", several, "", []string{"which backend", "--backend mta, or --backend old, or --backend exim, or --backend any\n"}},
		{"exim --backend none", several, "", []string{"no backend none", "--backend exim"}},
		{"exim --backend mta", several, "", []string{"preset: postfix", "smtpseal recipe postfix; or if the server is Exim, write preset: exim"}},
		{"postfix", "  mta: {preset: exchange, servers: ['10.0.0.2:25']}\n", "", []string{"preset: exchange", "smtpseal recipe exchange"}},
		{"opensmtpd", "  mta: {preset: opensmtpd, proxy_protocol: v1, servers: ['127.0.0.1:10025']}\n", "", []string{"reads only v2", "proxy_protocol: v2"}},
		{"exim", "  mta: {preset: exim, servers: ['unix:/run/exim.sock']}\n", "", []string{"unix:/run/exim.sock", "127.0.0.1:10025"}},
		{"exim --from nowhere", several, "", []string{`"nowhere" is no address`, "--from 192.0.2.5"}},
	} {
		args := append([]string{"recipe", "-c", cooked(t, c.backends)}, strings.Fields(c.line)...)
		code, stdout, stderr := command(args...)
		switch {
		case c.port != "" && (code != 0 || stderr != "" || !strings.Contains(stdout, c.port)):
			t.Errorf("%s: exit %d\n%s%s", c.line, code, stdout, stderr)
		case c.port == "" && (code != 1 || stdout != "" || !containsAll(stderr, c.want)):
			t.Errorf("%s: exit %d\n%s%s, want %q", c.line, code, stdout, stderr, c.want)
		}
	}
}

// Where there is no file the recipe is for what the README shows, and its
// first line says so; a file that was named must be there.
func TestRecipeWithoutAFile(t *testing.T) {
	if _, err := os.Stat(defaultFile); err == nil {
		t.Fatalf("this machine has a %s", defaultFile)
	}
	for _, name := range recipe.Names() {
		code, stdout, stderr := command("recipe", name)
		if first, _, _ := strings.Cut(stdout, "backend"); code != 0 || stderr != "" || !strings.Contains(first, "README") {
			// The sentence may wrap, but nothing comes before it.
			t.Errorf("%s: exit %d\n%s%s", name, code, stdout, stderr)
		}
	}
	code, stdout, stderr := command("recipe", "exim", "-c", filepath.Join(t.TempDir(), "none.yaml"))
	if code != 1 || stdout != "" || !strings.Contains(stderr, "there is no such file") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// The README's example is the one that the recipe is for, and what it says for
// Postfix is what the recipe says.
func TestRecipeAgreesWithTheREADME(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), readmeExample) {
		t.Errorf("the README has not:\n%s", readmeExample)
	}
	_, text, _ := strings.Cut(string(readme), "127.0.0.1:10025 inet")
	text, _, _ = strings.Cut(text, "```")
	_, stdout, _ := command("recipe", "postfix")
	if want := "\n127.0.0.1:10025 inet" + text; text == "" || !strings.Contains(stdout, want) {
		t.Errorf("the recipe has not:\n%s", want)
	}
}

func TestRecipeJSON(t *testing.T) {
	file := cooked(t, "  mta: {preset: postfix, servers: ['127.0.0.1:10025']}\n")
	code, stdout, stderr := command("recipe", "postfix", "-c", file, "--json")
	var r struct {
		Name            *string
		Files           []struct{ Path, Mode, Content string }
		Steps, Warnings []string
	}
	decoder := json.NewDecoder(strings.NewReader(stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if *r.Name != "postfix" || len(r.Files) != 1 || len(r.Steps) != 5 || len(r.Warnings) != 2 {
		t.Errorf("%s", stdout)
	}
	if f := r.Files[0]; f.Path != "/etc/postfix/master.cf" || f.Mode != "append" || !strings.Contains(f.Content, "\n127.0.0.1:10025 inet n - n - - smtpd\n") {
		t.Errorf("%+v", f)
	}
}

// A file's name cannot end the comment that it stands in.
func TestRecipeKeepsTheFilesNameInAComment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a\nmynetworks = 127.0.0.1")
	text, err := os.ReadFile(cooked(t, "  mta: {preset: postfix, servers: ['127.0.0.1:10025']}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command("recipe", "postfix", "-c", file)
	if code != 0 || strings.Contains(stdout, "\nmynetworks") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}
