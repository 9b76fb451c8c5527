package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"smtpseal/cmd/smtpseal/demo"
)

// mails sends a message by each port and says whether it arrived intact.
func (d *demonstration) mails(ctx context.Context) error {
	client := demo.Client{ServerName: "localhost", Roots: d.roots, Write: d.show.dialogue}
	for i, step := range []struct {
		port, manner string
		send         func(context.Context, string, demo.Mail) error
	}{
		{"465", "TLS from the first byte", client.SendTLS},
		{"587", "STARTTLS", client.SendStartTLS},
	} {
		addr := d.service.now.Load().sockets.nets(forMail)[i].Addr().String()
		d.show.heading("A message to %s, as to port %s: %s", addr, step.port, step.manner)
		mail := demoMail(step.port, time.Now())
		if err := step.send(ctx, addr, mail); err != nil {
			d.log.open()
			return fmt.Errorf("message to %s: %w", addr, err)
		}
		if err := d.arrived(ctx, mail); err != nil {
			d.log.open()
			return fmt.Errorf("message to %s: %w", addr, err)
		}
	}
	d.show.heading("What smtpseal logged: a line for each session")
	d.ended.wait(ctx, 2)
	d.log.open()
	d.show.line("")
	d.show.good("Both messages arrived intact, byte for byte.")
	return os.WriteFile(d.file("message.eml"), demoMail("you", time.Now()).Text, 0o644)
}

var errAltered = errors.New("what arrived is not what was sent")

// arrived shows what the mail server got, and compares.
func (d *demonstration) arrived(ctx context.Context, sent demo.Mail) error {
	var got demo.Message
	select {
	case got = <-d.delivered: // before the client heard 250
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.show.heading("What the mail server received in front of it")
	for _, line := range got.Header.Lines() {
		d.show.line("  " + line)
	}
	if string(got.Text) != string(sent.Text) {
		return fmt.Errorf("%w: %d bytes sent, %d arrived", errAltered, len(sent.Text), len(got.Text))
	}
	d.show.line("")
	d.show.good(fmt.Sprintf("It arrived intact: %d bytes, each the same.", len(got.Text)))
	return nil
}

// demoMail has in it what proxies are known to break: bytes above 127, a dot at
// the start of a line, and a dot alone.
func demoMail(port string, now time.Time) demo.Mail {
	text := `From: You <you@example.org>
To: Postmaster <postmaster@example.org>
Subject: Hello through ` + port + `
Date: ` + now.Format(time.RFC1123Z) + `
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Grüße! This came to smtpseal in TLS, and went on in clear.
.A dot at the start of a line is doubled on its way, and a dot alone
.
does not end the message.
`
	return demo.Mail{
		From: "you@example.org",
		To:   "postmaster@example.org",
		Text: []byte(strings.ReplaceAll(text, "\n", "\r\n")),
	}
}

// invite prints commands to try and shows what the mail server takes, until ctx
// ends.
func (d *demonstration) invite(ctx context.Context) {
	d.show.heading("Your turn: it stays up until Ctrl-C")
	for _, addr := range d.service.now.Load().sockets.addressesFor(forAdmin) {
		d.show.line("  status page: http://" + addr + "/\n")
	}
	for _, line := range d.commands() {
		d.show.line(line)
	}
	for {
		select {
		case <-ctx.Done():
			d.show.line("\nStopped; nothing is left behind.")
			return
		case m := <-d.delivered:
			d.show.line("")
			d.show.good(fmt.Sprintf("The mail server took a message from %s to %s: %d bytes",
				m.From, strings.Join(m.To, ", "), len(m.Text)))
			for _, line := range m.Header.Lines() {
				d.show.line("  " + line)
			}
		}
	}
}

// commands are for the user to paste into another terminal. The certificate is
// for localhost, whatever address is listened on.
func (d *demonstration) commands() []string {
	root, mail := d.file("root.pem"), d.file("message.eml")
	_, implicit, _ := net.SplitHostPort(d.service.now.Load().sockets.nets(forMail)[0].Addr().String())
	_, starttls, _ := net.SplitHostPort(d.service.now.Load().sockets.nets(forMail)[1].Addr().String())
	envelope := "--mail-from you@example.org --mail-rcpt postmaster@example.org --upload-file " + mail
	return []string{
		"  curl --cacert " + root + " smtps://localhost:" + implicit + " " + envelope,
		"  curl --cacert " + root + " --ssl-reqd smtp://localhost:" + starttls + " " + envelope,
		"",
		"  openssl s_client -crlf -quiet -verify_return_error -CAfile " + root + " -connect localhost:" + implicit,
		"  openssl s_client -crlf -quiet -verify_return_error -CAfile " + root + " -starttls smtp -connect localhost:" + starttls,
		"",
		"  swaks --to postmaster@example.org --server localhost:" + implicit + " --tlsc --tls-verify --tls-ca-path " + root,
		"  swaks --to postmaster@example.org --server localhost:" + starttls + " --tls --tls-verify --tls-ca-path " + root,
	}
}
