package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// The log line of a session has every field of the specification, and all of
// it is true. (That it has nothing secret is asked of every process, at stop.)
func TestLogLineOfASession(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, PeekOnce: true, Users: map[string]string{user: password}})
	p := start(t, setup{Server: srv.Addr()})
	for n, listener := range []string{submissions, submission, mx} {
		t.Run(listener, func(t *testing.T) {
			c := p.open(t, listener, "127.0.0.1")
			c.greet()
			c.login()
			c.deliver(mail{to: "one@example.test", body: []byte("one\r\n")})
			c.deliver(mail{to: "two@example.test", body: []byte("two\r\n")})
			c.quit()

			e := p.session(c.tcp.LocalAddr())
			state := c.tls.ConnectionState()
			for field, want := range map[string]any{
				"level": "info", "listener": listener, "backend": srv.Addr(), "outcome": "completed",
				"tls_version": "TLS 1.3", "tls_cipher": tls.CipherSuiteName(state.CipherSuite), "tls_curve": state.CurveID.String(), "tls_resumed": false,
				"server_name": hostname, "helo": "client.example", "auth": "PLAIN", "messages": 2.0,
			} {
				if e[field] != want {
					t.Errorf("%s: %v, want %v", field, e[field], want)
				}
			}
			for _, field := range []string{"bytes_in", "bytes_out", "duration", "handshake", "dial"} {
				if e.number(field) <= 0 {
					t.Errorf("%s: %v", field, e[field])
				}
			}
			if e.number("handshake") > e.number("duration") || e.number("duration") > 60 {
				t.Errorf("handshake %v, duration %v: not in seconds?", e["handshake"], e["duration"])
			}
			if e.text("phase") == "" || e.text("error") != "" {
				t.Errorf("phase %q, error %q", e["phase"], e["error"])
			}
			checkHeader(t, srv.WaitEnd(t, backendConnection(n)), c, e)
		})
	}
	p.settle()
}

// backendConnection is the number of the connection over which the mail of the
// nth listener came: mx makes one before STARTTLS, too.
func backendConnection(n int) int { return []int{1, 2, 4}[n] }

func (c *client) login() {
	c.t.Helper()
	c.Play("> AUTH PLAIN " + secrets()[2] + "\n<< 235")
}

// checkHeader compares the PROXY header with what the client and the log know.
func checkHeader(t *testing.T, backend mta.Connection, c *client, e entry) {
	t.Helper()
	h := backend.Header
	if h == nil || h.Segments != 1 || !h.OneRead || backend.Early != 0 {
		t.Fatalf("header %+v, %d octets before the greeting", h, backend.Early)
	}
	source, destination, _ := h.TCPAddrs()
	if source.String() != c.tcp.LocalAddr().String() || destination.String() != c.tcp.RemoteAddr().String() {
		t.Errorf("header names %v to %v, the connection is %v to %v", source, destination, c.tcp.LocalAddr(), c.tcp.RemoteAddr())
	}
	tlvs, err := h.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	have := map[proxyproto.PP2Type]string{}
	for _, tlv := range tlvs {
		have[tlv.Type] = string(tlv.Value)
	}
	if have[proxyproto.PP2_TYPE_UNIQUE_ID] != e.text("session") || have[proxyproto.PP2_TYPE_AUTHORITY] != hostname {
		t.Errorf("TLVs %q, session %q", have, e["session"])
	}
	seal, ok := tlvparse.FindSSL(tlvs)
	if !ok || !seal.ClientSSL() {
		t.Fatalf("no SSL TLV in %q", have)
	}
	if version, _ := seal.SSLVersion(); version != "TLSv1.3" {
		t.Errorf("SSL TLV: version %q", version)
	}
	if suite, _ := seal.SSLCipher(); suite != tls.CipherSuiteName(c.tls.ConnectionState().CipherSuite) {
		t.Errorf("SSL TLV: cipher %q", suite)
	}
	if len(h.Raw) > 232 {
		t.Errorf("header of %d octets: Exim takes 232", len(h.Raw))
	}
}

// On port 25 before TLS the header has no SSL TLV, and AUTH is not to be had.
func TestBeforeTLSOnMX(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	conn := p.dial(t, mx, "")
	c := talk.With(t, conn)
	c.Play("<< 220\n> EHLO other.example")
	for _, line := range c.ExpectReply("250") {
		if strings.Contains(line, "AUTH") {
			t.Errorf("offered in clear: %q", line)
		}
	}
	c.Play(`
		> AUTH PLAIN
		<< 538
		> MAIL FROM:<a@example.org>
		<< 250
		> RCPT TO:<b@example.test>
		<< 250
		> DATA
		<< 354
		> in clear
		> .
		<< 250
		> QUIT
		<< 221
		< FIN
	`)
	if got := srv.WaitMessage(t); string(got.Body) != "in clear\r\n" {
		t.Errorf("body %q", got.Body)
	}
	tlvs, err := srv.WaitEnd(t, 1).Header.TLVs()
	if _, ok := tlvparse.FindSSL(tlvs); err != nil || ok {
		t.Errorf("the backend is told of TLS: %v, %v", tlvs, err)
	}
	e := p.session(conn.LocalAddr())
	if e.text("outcome") != "completed" || e["tls_version"] != nil || e.number("messages") != 1 {
		t.Errorf("log line %v", e)
	}
}

// A session resumed with a ticket is logged as such, and its backend is told
// the same as that of a full handshake.
func TestResumedSession(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr()})
	config := p.tls()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for n, resumed := range []bool{false, true} {
		conn := p.dial(t, submissions, "")
		c := &client{Talker: talk.With(t, conn), t: t, tcp: conn}
		c.tls = c.StartTLS(config)
		c.Play("<< 220\n> EHLO x\n<< 250")
		c.quit()
		e := p.session(conn.LocalAddr())
		if e["tls_resumed"] != resumed || c.tls.ConnectionState().DidResume != resumed {
			t.Errorf("session %d: logged as resumed: %v", n, e["tls_resumed"])
		}
		checkHeader(t, srv.WaitEnd(t, n+1), c, e)
	}
}

// What a session never came to is not in its line, and what ended it is.
func TestLogLineOfUnfinishedSessions(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mta.Refusing(t)})
	for _, c := range []struct {
		name    string
		play    func(*testing.T) net.Conn
		outcome string
	}{
		{"gone before STARTTLS", func(t *testing.T) net.Conn {
			conn := p.dial(t, submission, "")
			talk.With(t, conn).Play("<< 220\n> EHLO x\n<< 250\n> QUIT\n<< 221\n< FIN")
			return conn
		}, "no_tls"},
		{"no handshake", func(t *testing.T) net.Conn {
			conn := p.dial(t, submissions, "")
			fmt.Fprint(conn, "EHLO x\r\n")
			talk.With(t, conn).Drain()
			return conn
		}, "tls_failed"},
		{"no backend", func(t *testing.T) net.Conn {
			c := p.seal(t, submissions, "")
			c.Play("<< 421\n< FIN")
			return c.tcp
		}, "backend_unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := c.play(t)
			e := p.session(conn.LocalAddr())
			if e.text("outcome") != c.outcome || e.number("messages") != 0 || e["auth"] != nil {
				t.Errorf("log line %v, want outcome %s", e, c.outcome)
			}
		})
	}
	p.settle()
}
