package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// What is no SMTP, or comes to the wrong port, is turned away at once, and no
// backend hears of it.
func TestWrongDoor(t *testing.T) {
	t.Parallel()
	const (
		http   = "GET / HTTP/1.1\r\nHost: mail.example.test\r\nUser-Agent: x\r\n\r\n"
		post   = "POST / HTTP/1.1\r\nHost: mail.example.test\r\nContent-Length: 40\r\n\r\nMAIL FROM:<evil@example.org>\r\nNOOP\r\nQUIT\r\n"
		header = "PROXY TCP4 198.51.100.70 192.0.2.1 4711 25\r\nEHLO evil\r\n"
	)
	hello := clientHello(t)
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	// The header of a stranger must not be believed where another's is.
	p := start(t, setup{Server: srv.Addr(), Listener: "accept_proxy: [127.0.0.9/32]"})
	for _, c := range []struct{ name, listener, sent, hears string }{
		{"HTTP on 465", submissions, http, ""},
		{"HTTP on 587", submission, http, "421 "},
		{"HTTP on 25", mx, http, "421 "},
		{"HTTP with a body on 587", submission, post, "421 "},
		{"HTTP with a body on 25", mx, post, "421 "},
		{"TLS on 587", submission, hello, ""},
		{"TLS on 25", mx, hello, ""},
		{"plain SMTP on 465", submissions, "EHLO x\r\n", ""},
		{"a stranger's PROXY line on 465", submissions, header, ""},
		{"a stranger's PROXY line on 587", submission, header, "421 "},
		{"a stranger's PROXY line on 25", mx, header, "421 "},
		{"a stranger's v2 header on 587", submission, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x46\xc0\x00\x02\x01\x12\x67\x00\x19EHLO evil\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := p.dial(t, c.listener, "")
			client := talk.With(t, conn)
			if c.listener != submissions {
				client.ExpectReply("220")
			}
			client.Send(c.sent)
			if heard := client.Drain(); c.listener != submissions && (!strings.HasPrefix(heard, c.hears) || strings.Contains(heard, "250")) {
				t.Errorf("hears %q, want %q", heard, c.hears)
			}
			conn.Close()
			if outcome := p.session(conn.LocalAddr()).text("outcome"); outcome != "violation" && outcome != "tls_failed" {
				t.Errorf("outcome %q", outcome)
			}
		})
	}
	srv.WaitIdle(t)
	for _, c := range srv.Connections() { // mx has one before the client speaks
		if len(c.Commands) > 0 && strings.Join(c.Commands, "") != "QUIT" {
			t.Errorf("the backend heard %q", c.Commands)
		}
	}
	p.settle()
}

// A client at the wrong port is told apart from noise: once an hour the log
// names the mistake and the right port.
func TestWrongPortIsNamedOnce(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	hello := clientHello(t)
	for _, c := range []struct{ listener, right, sent, network string }{
		{submission, submissions, hello, "127.0.3."}, {submissions, submission, "EHLO x\r\n", "127.0.4."},
	} {
		for n, host := range []string{"1", "1", "2"} {
			conn := p.dial(t, c.listener, c.network+host)
			fmt.Fprint(conn, c.sent)
			talk.With(t, conn).Drain()
			conn.Close()
			p.session(conn.LocalAddr())
			notices := p.notices(c.network, p.addrs[c.right])
			if want := []int{1, 1, 2}[n]; len(notices) != want {
				t.Errorf("%s: after client %d: %d notices, want %d:\n%s", c.listener, n, len(notices), want, strings.Join(notices, ""))
			}
		}
	}
}

// notices are the lines about clients that name a port.
func (p *process) notices(clients, right string) (found []string) {
	_, port, _ := net.SplitHostPort(right)
	for line := range strings.Lines(p.log()) {
		if strings.Contains(line, clients) && strings.Contains(line, ":"+port) && !strings.Contains(line, `"session closed"`) {
			found = append(found, line)
		}
	}
	return found
}

// A browser that was steered here is refused in the handshake: it offers ALPN,
// and not smtp (ALPACA).
func TestForeignALPN(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	for _, c := range []struct {
		protocols []string
		served    bool
	}{{nil, true}, {[]string{"smtp"}, true}, {[]string{"h2", "smtp"}, true}, {[]string{"h2", "http/1.1"}, false}, {[]string{"ftp"}, false}} {
		conn := p.dial(t, submissions, "")
		config := p.tls()
		config.NextProtos = c.protocols
		sealed := tls.Client(conn, config)
		err := sealed.Handshake()
		if err == nil { // in TLS 1.3 the client is done before the server has refused
			_, err = sealed.Read(make([]byte, 4))
		}
		if (err == nil) != c.served {
			t.Errorf("%q: %v", c.protocols, err)
		}
		sealed.Close()
		p.session(conn.LocalAddr())
	}
	p.settle()
}

// Clients without SNI, or with an address in it, are served.
func TestClientsWithoutServerName(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	for _, name := range []string{"", "other.example"} {
		sealed := tls.Client(net.Conn(p.dial(t, submissions, "")), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		talk.With(t, sealed).Play("<< 220\n> QUIT\n<< 221")
		if got := sealed.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != hostname {
			t.Errorf("name %q is shown a certificate for %q", name, got)
		}
		sealed.Close()
	}
	p.settle()
}
