package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// The client's address and port are in Postfix's log, its address in Received,
// by PROXY v1 and v2.
func TestBackendIsToldTheClient(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		for _, family := range []struct {
			host, service string
			clients       []string
		}{
			{"127.0.0.1", "proxy", []string{"127.0.0.1", "127.0.0.7", "127.1.2.3"}},
			{"::1", "proxy6", []string{"::1"}},
			{"::1", "proxy", []string{"::1"}}, // the hop's family need not be the client's
			{"127.0.0.1", "proxy6", []string{"127.0.0.8"}},
		} {
			t.Run(version+" "+family.host+" "+family.service, func(t *testing.T) {
				t.Parallel()
				p := start(t, setup{Server: mailbox.Addr(family.service), Host: family.host, Backend: "proxy_protocol: " + version})
				for _, listener := range []string{submissions, submission, mx} {
					for _, from := range family.clients {
						arrives(t, p, listener, from)
					}
				}
				p.settle()
			})
		}
	}
}

// arrives sends a mail and looks for its sender's address at the other end.
func arrives(t *testing.T, p *process, listener, from string) {
	t.Helper()
	to := recipient("address")
	c := p.open(t, listener, from)
	c.greet()
	c.deliver(mail{to: to, body: []byte("Subject: whose?\r\n\r\nmine\r\n")})
	c.quit()
	got := mailbox.WaitMail(t, to)
	client := c.tcp.LocalAddr().(*net.TCPAddr)
	literal := client.IP.String()
	if client.IP.To4() == nil {
		literal = "IPv6:" + literal
	}
	if want := fmt.Sprintf("from client.example (unknown [%s])", literal); !strings.Contains(got.Received, want) {
		t.Errorf("received: %s, want %s", got.Received, want)
	}
	mailbox.WaitLog(t, fmt.Sprintf(`%s: client=unknown\[%s\]:%d`, got.QueueID, client.IP, client.Port))
}

// Nobody relays through us but whom the backend trusts by its own address.
func TestProxyIsNoOpenRelay(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy")})
	c := p.open(t, submissions, "")
	c.greet()
	c.Play(`
		> MAIL FROM:<sender@example.org>
		<< 250
		> RCPT TO:<victim@example.com>
		<< 554 5.7.1
	`)
	c.quit()
}

// An inbound PROXY header is believed from whom accept_proxy names, and passed
// on; from all others it is junk.
func TestInboundHeader(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy"), Listener: "accept_proxy: [127.0.0.9/32]"})
	for _, listener := range []string{submissions, submission} {
		to := recipient("inbound")
		conn := p.dial(t, listener, "127.0.0.9")
		fmt.Fprintf(conn, "PROXY TCP4 198.51.100.70 192.0.2.1 4711 465\r\n")
		c := p.openOver(t, listener, conn)
		c.greet()
		c.deliver(mail{to: to, body: []byte("Subject: whose?\r\n\r\nhis\r\n")})
		// 198.51.100.70 may relay, and that is the proof that it is believed.
		c.Play(`
			> MAIL FROM:<sender@example.org>
			<< 250
			> RCPT TO:<anybody@example.com>
			<< 250
			> RSET
			<< 250
		`)
		c.quit()
		if got := mailbox.WaitMail(t, to); !strings.Contains(got.Received, "[198.51.100.70]") {
			t.Errorf("received: %s", got.Received)
		}
		p.session(&net.TCPAddr{IP: net.IPv4(198, 51, 100, 70), Port: 4711})
	}
}
