package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"smtpseal/test/exim"
	"smtpseal/test/loopback"
	"smtpseal/test/postfix"
	"smtpseal/test/talk"
)

// The text that `smtpseal recipe` prints is the configuration of the servers
// here, whole and unchanged; only it makes them fit to what is in front.

// recipeFor prints a recipe for the configuration of a process, as change makes
// it of the process's own file.
func (p *process) recipeFor(t *testing.T, name string, change func(string) string) string {
	t.Helper()
	text, err := os.ReadFile(p.command.Args[len(p.command.Args)-1])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "smtpseal.yaml")
	if err := os.WriteFile(file, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "recipe", name, "-c", file)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("recipe %s: %v", name, err)
	}
	return string(out)
}

func same(text string) string { return text }

// withoutMX takes away the listener for mail from other servers.
func withoutMX(text string) string {
	return regexp.MustCompile(`(?m)^ .*name: mx,.*\n`).ReplaceAllString(text, "")
}

// free is an address for a server that is started later.
func free(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// debianTrusts are networks as Debian's main.cf has them: behind a proxy on the
// same machine an open relay, but for the recipe.
const debianTrusts = "mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\n"

func TestPostfixByItsRecipe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change   func(string) string
		stranger string // what a stranger hears who sends to this server's domain
	}{
		"people and servers": {same, "250"},
		"people alone":       {withoutMX, "554"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := free(t)
			p := start(t, setup{Server: addr})
			srv := postfix.Start(t, postfix.Config{
				Users:  map[string]string{user: password},
				Main:   debianTrusts,
				Master: p.recipeFor(t, "postfix", c.change),
			})
			for _, listener := range []string{submissions, submission} {
				to := recipient("postfix-recipe")
				client := p.open(t, listener, "127.0.0.7")
				stranger(t, client, c.stranger)
				client.logIn()
				client.deliver(mail{to: to, body: []byte("Subject: by the book\r\n\r\nbody\r\n")})
				client.relays()
				client.quit()
				got := srv.WaitMail(t, to)
				port := client.tcp.LocalAddr().(*net.TCPAddr).Port
				srv.WaitLog(t, fmt.Sprintf(`%s: client=unknown\[127\.0\.0\.7\]:%d, sasl_method=PLAIN`, got.QueueID, port))
				if !strings.Contains(got.Received, "[127.0.0.7]") || string(got.Content) != "Subject: by the book\n\nbody\n" {
					t.Errorf("%+v", got)
				}
			}
			p.settle()
		})
	}
}

// Without the recipe's line about mynetworks Postfix knows every client of the
// same machine for one of its own.
func TestPostfixRecipeNeedsItsMynetworks(t *testing.T) {
	t.Parallel()
	addr := free(t)
	p := start(t, setup{Server: addr})
	text := p.recipeFor(t, "postfix", same)
	for _, line := range []string{"    -o mynetworks=\n", "    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination\n"} {
		if !strings.Contains(text, line) {
			t.Fatalf("no %q in\n%s", line, text)
		}
		text = strings.Replace(text, line, "", 1)
	}
	postfix.Start(t, postfix.Config{Users: map[string]string{user: password}, Main: debianTrusts, Master: text})
	c := p.open(t, submissions, "127.0.0.7")
	c.greet()
	c.relays()
	c.quit()
}

func TestEximByItsRecipe(t *testing.T) {
	t.Parallel()
	addr := free(t)
	p := start(t, setup{Server: addr})
	// A smtpseal that has port 25, so that Exim does not want it.
	text := p.recipeFor(t, "exim", func(text string) string {
		text = strings.Replace(text, "preset: postfix", "preset: exim", 1)
		return strings.Replace(text, fmt.Sprintf("%q", p.addrs[mx]), `"127.0.0.1:25"`, 1)
	})
	srv := exim.Start(t, exim.Config{Local: text, Users: map[string]string{user: password}})
	for _, listener := range []string{submissions, submission} {
		to := recipient("exim-recipe")
		client := p.open(t, listener, "127.0.0.7")
		stranger(t, client, "250")
		client.logIn()
		client.deliver(mail{to: to, body: []byte("Subject: by the book\r\nFrom: sender@example.org\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\nMessage-Id: <1@example.org>\r\n\r\nbody\r\n")})
		client.relays()
		client.quit()
		got := srv.WaitMail(t, to)
		if !strings.Contains(got, "[127.0.0.7]") || !strings.HasSuffix(got, "\n\nbody\n") {
			t.Errorf("delivered:\n%s", got)
		}
		srv.WaitLog(t, `<= sender@example\.org H=.*\[127\.0\.0\.7\] P=esmtpa A=plain_server:`+regexp.QuoteMeta(user))
		srv.WaitLog(t, `\[127\.0\.0\.7\].* rejected RCPT <victim@example\.com>: relay not permitted`)
	}
	p.settle()
	eximOutside(t, addr)
}

// eximOutside looks at Exim's port as who is not smtpseal: by another address
// than the one that may send a header it is no proxy, and offers no passwords
// in clear; from the right one it must have a header.
func eximOutside(t *testing.T, addr string) {
	t.Helper()
	for from, want := range map[string]string{"127.0.0.9": "250", "127.0.0.1": "503"} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := client{Talker: talk.With(t, conn), t: t}
		c.Play("<< 220\n> EHLO client.example")
		for _, line := range c.ExpectReply(want) {
			if strings.Contains(line, "AUTH") {
				t.Errorf("from %s: %q", from, line)
			}
		}
	}
}

// stranger sends without a login: not elsewhere, and to this server's domain as
// told. AUTH is offered meanwhile.
func stranger(t *testing.T, c *client, local string) {
	t.Helper()
	if keywords := strings.Join(c.greet(), "\n"); !strings.Contains(keywords, "AUTH PLAIN") && !strings.Contains(keywords, "AUTH LOGIN") {
		t.Errorf("announced:\n%s", keywords)
	}
	c.Play(`
		> MAIL FROM:<stranger@example.org>
		<< 250
		> RCPT TO:<victim@example.com>
		<< 55
		> RCPT TO:<postmaster@` + postfix.Domain + `>
		<< ` + local + `
		> RSET
		<< 250
	`)
}

func (c *client) logIn() {
	c.t.Helper()
	c.Play("> AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)) + "\n<< 235")
}

// relays opens a transaction to elsewhere, and gives it up.
func (c *client) relays() {
	c.t.Helper()
	c.Play(`
		> MAIL FROM:<sender@example.org>
		<< 250
		> RCPT TO:<anybody@example.com>
		<< 250
		> RSET
		<< 250
	`)
}
