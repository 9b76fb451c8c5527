package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// injected is what an attacker who sits in the middle adds in clear, to have it
// run in the victim's session.
const injected = "EHLO evil.example\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.test>\r\n"

// Nothing that comes in clear behind STARTTLS is ever run: the session ends
// (CVE-2011-0411 and its kin).
func TestInjectionBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	hello := clientHello(t)
	for _, attack := range []struct {
		name   string
		writes []string // … one segment each
		behind string   // … the 220, if one comes
	}{
		{"in the same segment", []string{"STARTTLS\r\n" + injected}, ""},
		{"in the next segment", []string{"STARTTLS\r\n", injected}, ""},
		{"behind the 220", []string{"STARTTLS\r\n"}, injected},
		{"behind a bare LF", []string{"STARTTLS\n" + injected}, ""},
		{"a blank line", []string{"STARTTLS\r\n\r\n"}, ""},
		{"half a command", []string{"STARTTLS\r\nMAIL FR"}, ""},
		{"half a command in the next segment", []string{"STARTTLS\r\n", "MAIL FR"}, ""},
		{"one octet", []string{"STARTTLS\r\nM"}, ""},
		{"half a ClientHello glued on", []string{"STARTTLS\r\n" + hello[:40]}, ""},
		{"STARTTLS twice", []string{"STARTTLS\r\nSTARTTLS\r\n"}, ""},
	} {
		t.Run(attack.name, func(t *testing.T) {
			t.Parallel()
			srv := mta.Start(t, mta.Config{Proxy: mta.V2, PeekOnce: true})
			p := start(t, setup{Server: srv.Addr()})
			for _, listener := range []string{submission, mx} {
				conn := p.dial(t, listener, "")
				c := talk.With(t, conn)
				c.Play("<< 220\n> EHLO before.example\n<< 250")
				for _, octets := range attack.writes {
					c.Send(octets)
				}
				goOn(conn, p.tls(), attack.behind)
				e := p.session(conn.LocalAddr())
				if outcome := e.text("outcome"); outcome != "violation" && outcome != "tls_failed" && outcome != "client_timeout" {
					t.Errorf("%s: outcome %q", listener, outcome)
				}
			}
			srv.WaitIdle(t)
			for _, c := range srv.Connections() {
				// On mx there is one, from before STARTTLS, and we may end it politely.
				if got := strings.Join(c.Commands, ","); strings.TrimSuffix(got, ",QUIT") != "EHLO before.example" {
					t.Errorf("the backend heard %q", got)
				}
			}
			if got := len(srv.Connections()); got != 1 {
				t.Errorf("%d connections to the backend", got)
			}
			p.settle()
		})
	}
}

// A client that does not wait for the 220 is not told from an attacker who has
// put a ClientHello of his own there: no handshake comes of it.
func TestClientHelloGluedToSTARTTLS(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	for _, listener := range []string{submission, mx} {
		conn := p.dial(t, listener, "")
		talk.With(t, conn).Play("<< 220\n> EHLO before.example\n<< 250")
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if err := tls.Client(&glued{TCPConn: conn}, p.tls()).Handshake(); err == nil {
			t.Errorf("%s: the handshake succeeds", listener)
		}
		conn.Close()
		if e := p.session(conn.LocalAddr()); e.text("outcome") != "violation" {
			t.Errorf("%s: log line %v", listener, e)
		}
	}
	p.settle()
}

// A glued connection sends STARTTLS in the segment of the first flight, and
// reads over a 220 that may come before the server's.
type glued struct {
	*net.TCPConn
	begun, read bool
}

func (g *glued) Write(b []byte) (int, error) {
	if g.begun {
		return g.TCPConn.Write(b)
	}
	g.begun = true
	n, err := g.TCPConn.Write(append([]byte("STARTTLS\r\n"), b...))
	return max(0, n-len("STARTTLS\r\n")), err
}

func (g *glued) Read(b []byte) (int, error) {
	if !g.read {
		g.read = true
		for line, octet := "", []byte{0}; !strings.HasSuffix(line, "\n"); line += string(octet) {
			if _, err := g.TCPConn.Read(octet); err != nil {
				return 0, err
			}
		}
	}
	return g.TCPConn.Read(b)
}

// goOn acts as the victim does, who knows nothing: reads the 220, shakes hands,
// sends a mail. Any step may fail; how far it came is for the log and the
// backend to say.
func goOn(conn net.Conn, config *tls.Config, behind string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	reply := make([]byte, 512)
	if n, err := conn.Read(reply); err != nil || !strings.HasPrefix(string(reply[:n]), "220 ") {
		return
	}
	if _, err := conn.Write([]byte(behind)); err != nil {
		return
	}
	sealed := tls.Client(conn, config)
	if sealed.Handshake() == nil {
		fmt.Fprint(sealed, "OM:<evil@example.org>\r\nNOOP\r\n")
		sealed.Read(reply)
	}
}

// clientHello is the first flight of a handshake.
func clientHello(t *testing.T) string {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		tls.Client(theirs, &tls.Config{ServerName: hostname}).Handshake()
	}()
	hello := make([]byte, 16<<10)
	n, err := ours.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return string(hello[:n])
}

// Octets that an attacker puts into a TLS session end it, and nothing of them
// reaches the backend.
func TestInjectionIntoTLS(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	for _, listener := range []string{submissions, submission} {
		c := p.open(t, listener, "")
		c.greet()
		c.envelope("someone@example.test")
		fmt.Fprint(c.tcp, "RCPT TO:<evil@example.test>\r\n")
		c.Drain()
		p.session(c.tcp.LocalAddr())
	}
	srv.WaitIdle(t)
	for _, c := range srv.Connections() {
		if strings.Contains(string(c.In()), "evil") || c.Said("QUIT") {
			t.Errorf("the backend heard %s", c.String())
		}
	}
	p.settle()
}

// Before TLS there is no AUTH, no mail, and no second STARTTLS after it.
func TestNothingButSTARTTLS(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Extensions: mta.Everything})
	p := start(t, setup{Server: srv.Addr()})
	c := talk.With(t, p.dial(t, submission, ""))
	c.Play("<< 220\n> EHLO x")
	if got := strings.Join(c.ExpectReply("250"), "|"); got != "250-"+hostname+"|250-STARTTLS|250 ENHANCEDSTATUSCODES" {
		t.Errorf("EHLO is answered %q", got)
	}
	c.Play(`
		> NOOP
		<< 250
		> RSET
		<< 250
		> HELP
		<< 214
		> AUTH PLAIN AGEAYg==
		<< 530 5.7.0 Must issue a STARTTLS command first
		> MAIL FROM:<a@example.org>
		<< 530 5.7.0
		> STARTTLS now
		<< 501
		> HELO x
		<< 250
		> STARTTLS
		<< 220
	`)
	if n := len(srv.Connections()); n != 0 {
		t.Errorf("%d connections to the backend before TLS", n)
	}
	c.StartTLS(p.tls())
	c.Play(`
		> EHLO x
		<< 250
		> STARTTLS
		<< 503
		> NOOP
		<< 250
		> QUIT
		<< 221
		< FIN
	`)
	if got := srv.WaitEnd(t, 1); got.Said("STARTTLS") || strings.Count(string(got.In()), "EHLO") != 1 {
		t.Errorf("the backend heard %s", got.String())
	}
}
