package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpseal/test/talk"
)

// A tool sends one mail. It returns what it has printed.
type tool func(t *testing.T, p *process, listener, from, mechanism, to, file string)

// The message that every tool sends: what each of them must not spoil.
const message = "Subject: by a tool\r\nFrom: sender@example.org\r\n\r\n.leading dot\r\n..two\r\nplain\r\n"

// Real clients send mail with and without AUTH, by both ports. What arrives is
// what was sent, from the address that sent it, and the log line says so.
func TestRealClients(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy")})
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, send := range map[string]tool{
		"swaks": swaks, "curl": curl, "net_smtp": netSMTP, "s_client": sClient, "s_client_crlf": sClientCRLF,
	} {
		for _, listener := range []string{submissions, submission} {
			for _, mechanism := range []string{"", "PLAIN", "LOGIN", "CRAM-MD5"} {
				if mechanism == "CRAM-MD5" && strings.HasPrefix(name, "s_client") {
					continue // nobody does that by hand
				}
				n++
				from := fmt.Sprintf("127.0.2.%d", n) // whose session it is
				t.Run(name+" "+listener+" "+mechanism, func(t *testing.T) {
					t.Parallel()
					to := recipient(name)
					send(t, p, listener, from, mechanism, to, file)
					check(t, p, listener, from, mechanism, to)
				})
			}
		}
	}
}

// check looks at both ends of a delivery.
func check(t *testing.T, p *process, listener, from, mechanism, to string) {
	t.Helper()
	got := mailbox.WaitMail(t, to)
	if want := stored([]byte(message)); !bytes.Equal(got.Content, want) {
		t.Errorf("stored: %s", difference(got.Content, want))
	}
	if !strings.Contains(got.Received, "(unknown ["+from+"])") {
		t.Errorf("received: %s", got.Received)
	}
	line := fmt.Sprintf(`%s: client=unknown\[%s\]:\d+`, got.QueueID, regexp.QuoteMeta(from))
	if mechanism != "" {
		line += fmt.Sprintf(", sasl_method=%s, sasl_username=%s", mechanism, user)
	}
	mailbox.WaitLog(t, line+"$")

	var e entry
	p.wait("the log line of "+from, func() bool {
		e = p.find("session closed", func(e entry) bool { return strings.HasPrefix(e.text("client"), from+":") })
		return e != nil
	})
	if e.text("listener") != listener || e.text("auth") != mechanism || e.number("messages") != 1 || e.text("outcome") != "completed" {
		t.Errorf("log line %v", e)
	}
}

func swaks(t *testing.T, p *process, listener, from, mechanism, to, file string) {
	host, port, _ := net.SplitHostPort(p.addrs[listener])
	file = withoutLastLineEnd(t, file) // swaks puts one behind what it is given
	args := []string{"--server", host, "--port", port, "--local-interface", from, "--ehlo", "client.example",
		"--from", "sender@example.org", "--to", to, "--data", "@" + file,
		"--tls-verify", "--tls-ca-path", p.rootFile, "--tls-sni", hostname}
	if listener == submissions {
		args = append(args, "--tls-on-connect")
	} else {
		args = append(args, "--tls")
	}
	if mechanism != "" {
		args = append(args, "--auth", mechanism, "--auth-user", user, "--auth-password", password)
	}
	succeed(t, exec.Command("swaks", args...))
}

func withoutLastLineEnd(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, bytes.TrimSuffix(text, []byte("\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func curl(t *testing.T, p *process, listener, from, mechanism, to, file string) {
	host, port, _ := net.SplitHostPort(p.addrs[listener])
	url := map[string]string{submissions: "smtps", submission: "smtp"}[listener] + "://" + hostname + ":" + port + "/client.example"
	args := []string{"-sS", "--noproxy", "*", "--url", url, "--resolve", hostname + ":" + port + ":" + host, "--interface", from,
		"--ssl-reqd", "--cacert", p.rootFile, "--mail-from", "sender@example.org", "--mail-rcpt", to, "--upload-file", file}
	if mechanism != "" {
		args = append(args, "--user", user+":"+password, "--login-options", "AUTH="+mechanism)
	}
	succeed(t, exec.Command("curl", args...))
}

func succeed(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command.Path, err, out)
	}
}

// netSMTP is Go's own client, which thousands of programs send mail with.
func netSMTP(t *testing.T, p *process, listener, from, mechanism, to, _ string) {
	conn := net.Conn(p.dial(t, listener, from))
	if listener == submissions {
		conn = talk.With(t, conn).StartTLS(p.tls())
	}
	c, err := smtp.NewClient(conn, hostname)
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { return c.Hello("client.example") },
		func() error {
			if listener == submission {
				return c.StartTLS(p.tls())
			}
			return nil
		},
		func() error {
			if mechanism != "" {
				return c.Auth(auth(mechanism))
			}
			return nil
		},
		func() error { return c.Mail("sender@example.org") },
		func() error { return c.Rcpt(to) },
		func() error {
			w, err := c.Data()
			if err == nil {
				_, err = w.Write([]byte(message))
			}
			if err == nil {
				err = w.Close()
			}
			return err
		},
		c.Quit,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

func auth(mechanism string) smtp.Auth {
	switch mechanism {
	case "PLAIN":
		return smtp.PlainAuth("", user, password, hostname)
	case "LOGIN":
		return login{}
	}
	return smtp.CRAMMD5Auth(user, password)
}

// login is AUTH LOGIN, which net/smtp lacks.
type login struct{}

func (login) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (login) Next(question []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case strings.HasPrefix(string(question), "Username"):
		return []byte(user), nil
	}
	return []byte(password), nil
}

// Someone at a terminal, with lines that end in LF alone: they are written on
// with CRLF. The body is typed with CRLF; TestSmuggling has the other case.
func sClient(t *testing.T, p *process, listener, from, mechanism, to, _ string) {
	typeMail(t, p, "\n", listener, from, mechanism, to)
}

func sClientCRLF(t *testing.T, p *process, listener, from, mechanism, to, _ string) {
	typeMail(t, p, "\r\n", listener, from, mechanism, to)
}

func typeMail(t *testing.T, p *process, end, listener, from, mechanism, to string) {
	args := []string{"s_client", "-quiet", "-verify_return_error", "-verify_quiet", "-CAfile", p.rootFile, "-verify_hostname", hostname,
		"-servername", hostname, "-bind", from + ":0", "-connect", p.addrs[listener]}
	if listener == submission {
		args = append(args, "-starttls", "smtp", "-name", "client.example")
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	terminal := program(t, exec.Command("openssl", args...))
	if listener == submissions {
		terminal.ExpectReply("220")
	}
	steps := []step{{"EHLO client.example", "250"}}
	switch mechanism {
	case "PLAIN":
		steps = append(steps, step{"AUTH PLAIN " + encode("\x00"+user+"\x00"+password), "235"})
	case "LOGIN":
		steps = append(steps, step{"AUTH LOGIN", "334"}, step{encode(user), "334"}, step{encode(password), "235"})
	}
	steps = append(steps, step{"MAIL FROM:<sender@example.org>", "250"}, step{"RCPT TO:<" + to + ">", "250"}, step{"DATA", "354"})
	for _, s := range steps {
		terminal.Send(s.say + end)
		terminal.ExpectReply(s.hear)
	}
	terminal.Send(string(stuffed([]byte(message))))
	terminal.ExpectReply("250")
	terminal.Send("QUIT" + end)
	terminal.ExpectReply("221")
}

// program runs a program whose input and output are a dialogue.
func program(t *testing.T, command *exec.Cmd) *talk.Talker {
	t.Helper()
	in, toProgram, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromProgram, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = in, out, &complaints
	err = command.Start()
	in.Close()
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		toProgram.Close()
		fromProgram.Close()
		defer time.AfterFunc(5*time.Second, func() { command.Process.Kill() }).Stop()
		if err := command.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", command.Path, err, complaints.Bytes())
		}
	})
	return talk.With(t, pipes{fromProgram, toProgram})
}

// pipes are the two ends of a program as one stream.
type pipes struct{ from, to *os.File }

func (p pipes) Read(b []byte) (int, error)        { return p.from.Read(b) }
func (p pipes) Write(b []byte) (int, error)       { return p.to.Write(b) }
func (p pipes) SetReadDeadline(d time.Time) error { return p.from.SetReadDeadline(d) }
