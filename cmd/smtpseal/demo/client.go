package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"
)

// clientWait bounds the client's whole stay, which takes milliseconds.
const clientWait = 30 * time.Second

// A Speaker is who a line of a dialogue comes from.
type Speaker string

// Those who have something to say.
const (
	ClientSays Speaker = "C"
	ServerSays Speaker = "S"
	Note       Speaker = "*"
)

// A Client sends one message a connection and writes the dialogue down.
type Client struct {
	ServerName string         // that the certificate must be for
	Roots      *x509.CertPool // that must have signed it
	Write      func(Speaker, string)
}

// A Mail is what to send. The text's lines end in CRLF.
type Mail struct {
	From, To string
	Text     []byte
}

// SendTLS sends by TLS from the first octet, as on port 465 (RFC 8314).
func (c *Client) SendTLS(ctx context.Context, addr string, m Mail) error {
	return c.send(ctx, addr, m, func(d *dialogue) error {
		if err := d.secure(); err != nil {
			return err
		}
		return d.expect(220)
	})
}

// SendStartTLS sends by STARTTLS, as on port 587 (RFC 3207).
func (c *Client) SendStartTLS(ctx context.Context, addr string, m Mail) error {
	return c.send(ctx, addr, m, func(d *dialogue) error {
		if err := d.expect(220); err != nil {
			return err
		}
		if err := d.ask(250, "EHLO client.example"); err != nil {
			return err
		}
		if err := d.ask(220, "STARTTLS"); err != nil {
			return err
		}
		return d.secure()
	})
}

// send dials, opens the session by the given steps, and mails.
func (c *Client) send(ctx context.Context, addr string, m Mail, open func(*dialogue) error) error {
	ctx, cancel := context.WithTimeout(ctx, clientWait)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	d := &dialogue{client: c, conn: conn, in: bufio.NewReader(conn)}
	if err := open(d); err != nil {
		return err
	}
	return d.mail(m)
}

// A dialogue is one connection to a mail server, with or without TLS.
type dialogue struct {
	client *Client
	conn   net.Conn
	in     *bufio.Reader
}

// secure begins TLS and verifies the certificate. What came in clear and was
// not read yet is refused: it would be taken for the server's secured words.
func (d *dialogue) secure() error {
	if d.in.Buffered() > 0 {
		return fmt.Errorf("starttls: the server spoke before TLS was up")
	}
	conn := tls.Client(d.conn, &tls.Config{ServerName: d.client.ServerName, RootCAs: d.client.Roots})
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	d.conn, d.in = conn, bufio.NewReader(conn)
	state := conn.ConnectionState()
	d.client.Write(Note, fmt.Sprintf("%s, %s, %s; certificate for %s verified", tls.VersionName(state.Version),
		tls.CipherSuiteName(state.CipherSuite), state.CurveID, d.client.ServerName))
	return nil
}

// mail sends one message and says goodbye.
func (d *dialogue) mail(m Mail) error {
	for _, step := range []struct {
		command string
		code    int
	}{
		{"EHLO client.example", 250},
		{"MAIL FROM:<" + m.From + ">", 250},
		{"RCPT TO:<" + m.To + ">", 250},
		{"DATA", 354},
	} {
		if err := d.ask(step.code, step.command); err != nil {
			return err
		}
	}
	if err := d.say(string(stuff(m.Text))); err != nil {
		return err
	}
	if err := d.expect(250); err != nil {
		return err
	}
	if err := d.ask(221, "QUIT"); err != nil {
		return err
	}
	return d.conn.Close() // with TLS's own end, which a cut connection has not
}

// ask sends a command and waits for its reply.
func (d *dialogue) ask(code int, command string) error {
	if err := d.say(command + "\r\n"); err != nil {
		return err
	}
	return d.expect(code)
}

// say sends whole lines.
func (d *dialogue) say(lines string) error {
	for line := range strings.Lines(lines) {
		d.client.Write(ClientSays, strings.TrimRight(line, "\r\n"))
	}
	_, err := d.conn.Write([]byte(lines))
	return err
}

// expect reads one reply, of one or more lines (RFC 5321 section 4.2), which
// must have the code.
func (d *dialogue) expect(code int) error {
	for lines := 0; lines < 100; lines++ {
		line, err := d.in.ReadSlice('\n') // no line is longer than its buffer
		if err != nil {
			return fmt.Errorf("read reply: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		d.client.Write(ServerSays, text)
		if len(text) > 3 && text[3] == '-' {
			continue
		}
		if want := fmt.Sprint(code); !strings.HasPrefix(text, want) {
			return fmt.Errorf("answered %q where %s was expected", text, want)
		}
		return nil
	}
	return fmt.Errorf("reply without an end")
}
