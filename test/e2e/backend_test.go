package e2e

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// However the backend fails before it has greeted, the client hears 421, as
// the greeting on 465, as the answer to its first command on 587.
func TestBackendThatDoesNotGreet(t *testing.T) {
	t.Parallel()
	fault := func(f mta.Fault) mta.Config { return mta.Config{Proxy: mta.V2, Faults: []mta.Fault{f}} }
	for _, c := range []struct {
		name    string
		addr    func(*testing.T) string // in place of a server
		config  mta.Config
		backend string // of the proxy's configuration
		outcome string
		talks   bool // greets well, and says more
	}{
		{name: "refuses", addr: func(t *testing.T) string { return mta.Refusing(t) }, outcome: "backend_unreachable"},
		{name: "does not answer the dial", addr: func(t *testing.T) string { return mta.Deaf(t) }, outcome: "backend_unreachable"},
		{name: "FIN before the greeting", config: fault(mta.Fault{At: mta.Greeting, Then: mta.Close})},
		{name: "RST before the greeting", config: fault(mta.Fault{At: mta.Greeting, Then: mta.Reset})},
		{name: "FIN before the header", config: fault(mta.Fault{At: mta.Connect, Then: mta.Close})},
		{name: "silent", config: fault(mta.Fault{At: mta.Greeting, Then: mta.Stall})},
		{name: "half a greeting", config: fault(mta.Fault{At: mta.Greeting, Say: "220 mta.exa", Then: mta.Stall})},
		{name: "half a greeting and FIN", config: fault(mta.Fault{At: mta.Greeting, Say: "220-mta\r\n220 mta", Then: mta.Close})},
		{name: "421", config: mta.Config{Proxy: mta.V2, Greeting: "421 4.3.2 busy\r\n"}, outcome: "backend_refused"},
		{name: "no SMTP", config: mta.Config{Proxy: mta.V2, Greeting: "SSH-2.0-OpenSSH_9.2\r\n"}},
		{name: "speaks again unasked", config: fault(mta.Fault{After: mta.Greeting, Say: "500 5.5.2 what?\r\n"}), outcome: "violation", talks: true},
		{name: "wants v1, gets v2", config: mta.Config{Proxy: mta.V1}},
		{name: "wants v2, gets v1", config: mta.Config{Proxy: mta.V2, BadHeader: mta.Say421}, backend: "proxy_protocol: v1"},
		{name: "wants a header, gets none", config: mta.Config{Proxy: mta.V2, HeaderTimeout: time.Minute}, backend: "proxy_protocol: 'off'"},
		{name: "wants none, gets v1", backend: "proxy_protocol: v1", outcome: "violation", talks: true},
		{name: "wants none, gets v2", outcome: "violation", talks: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var addr string
			var srv *mta.Server
			if c.addr != nil {
				addr = c.addr(t)
			} else {
				srv = mta.Start(t, c.config)
				addr = srv.Addr()
			}
			p := start(t, setup{Server: addr, Backend: c.backend, Timeouts: "dial: 1s, greeting: 1s, command: 10s"})
			for n, listener := range []string{submissions, submission, mx} {
				client, conn := p.first(t, listener)
				if c.talks {
					// The greeting may have been passed on before the rest came.
					srv.WaitConnection(t, n+1, func(c *mta.Connection) bool { return strings.Count(string(c.Out()), "\n") > 1 })
					time.Sleep(talk.Quiet)
				}
				if listener == submission || c.talks {
					client.Send("EHLO client.example\r\n")
				}
				if c.talks {
					client.Maybe("220")
				}
				client.Play("<< 421\n< END")
				conn.Close()
				e := p.session(conn.LocalAddr())
				if c.outcome != "" && e.text("outcome") != c.outcome || e.text("outcome") == "completed" || e.text("error") == "" {
					t.Errorf("%s: log line %v, want outcome %s", listener, e, c.outcome)
				}
			}
			p.settle()
		})
	}
}

// first goes to where the backend's greeting is due, or the client's EHLO.
func (p *process) first(t *testing.T, listener string) (*talk.Talker, net.Conn) {
	t.Helper()
	if listener == mx {
		conn := p.dial(t, listener, "")
		return talk.With(t, conn), conn
	}
	c := p.seal(t, listener, "")
	return c.Talker, c.tls
}

// A backend that fails later: the client hears 421, and nothing is said to be
// delivered that was not.
func TestBackendThatFails(t *testing.T) {
	t.Parallel()
	const toRcpt = "> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.test>\n<< 250\n"
	const toData = toRcpt + "> DATA\n<< 354\n"
	const lost = "<< 421\n< FIN"
	for _, c := range []struct {
		name   string
		fault  mta.Fault
		script string
		mails  int
	}{
		{"FIN behind the greeting", mta.Fault{After: mta.Greeting, Then: mta.Close}, "> EHLO x\n" + lost, 0},
		{"RST at EHLO", mta.Fault{At: "EHLO", Then: mta.Reset}, "> EHLO x\n" + lost, 0},
		{"FIN behind EHLO", mta.Fault{After: "EHLO", Then: mta.Close}, "> EHLO x\n<< 250\n> NOOP\n" + lost, 0},
		{"FIN at MAIL", mta.Fault{At: "MAIL", Then: mta.Close}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n" + lost, 0},
		{"RST at RCPT", mta.Fault{At: "RCPT", Then: mta.Reset}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n<< 250\n> RCPT TO:<b@example.test>\n" + lost, 0},
		{"FIN at DATA", mta.Fault{At: "DATA", Then: mta.Close}, toRcpt + "> DATA\n" + lost, 0},
		{"FIN in mid-body", mta.Fault{At: mta.Body, Octets: 3, Then: mta.Close}, toData + "> body\n> .\n" + lost, 0},
		{"RST in mid-body", mta.Fault{At: mta.Body, Octets: 3, Then: mta.Reset}, toData + "> body\n> .\n" + lost, 0},
		{"RST in a chunk", mta.Fault{At: mta.Body, Octets: 3, Then: mta.Reset}, toRcpt + ">> BDAT 6 LAST\\r\\nbody\\r\\n\n" + lost, 0},
		{"FIN behind the body", mta.Fault{At: mta.EndOfData, Then: mta.Close}, toData + "> body\n> .\n" + lost, 0},
		{"RST behind the body", mta.Fault{At: mta.EndOfData, Then: mta.Reset}, toData + "> body\n> .\n" + lost, 0},
		{"half a reply", mta.Fault{At: "MAIL", Say: "250 2.1", Then: mta.Close}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n" + lost, 0},
		{"half a reply behind the body", mta.Fault{At: mta.EndOfData, Say: "250 2.0.0 O", Then: mta.Reset}, toData + "> body\n> .\n" + lost, 0},
		{"silent at MAIL", mta.Fault{At: "MAIL", Then: mta.Stall}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n" + lost, 0},
		{"silent behind the body", mta.Fault{At: mta.EndOfData, Then: mta.Stall}, toData + "> body\n> .\n" + lost, 0},
		{"no SMTP", mta.Fault{At: "MAIL", Say: "* BAD what\r\n"}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n" + lost, 0},
		{"421 and FIN", mta.Fault{At: "MAIL", Say: "421 4.3.2 going down\r\n", Then: mta.Close}, "> EHLO x\n<< 250\n> MAIL FROM:<>\n" + lost, 0},
		{"552 in mid-body", mta.Fault{At: mta.Body, Octets: 3, Say: "552 5.3.4 enough\r\n"}, toData + "> body\n> .\n<< 552\n> QUIT\n<< 221\n< FIN", 0},
		{"552 in mid-body and FIN", mta.Fault{At: mta.Body, Octets: 3, Say: "552 5.3.4 enough\r\n", Then: mta.Close}, toData + "> body\n> .\n<< 552", 0},
		{"replies octet by octet", mta.Fault{At: "EHLO", EachOctet: time.Microsecond}, toData + "> body\n> .\n<< 250\n> QUIT\n<< 221\n< FIN", 1},
		{"a refusal of the body", mta.Fault{At: mta.EndOfData, Say: "554 5.7.1 spam\r\n"}, toData + "> body\n> .\n<< 554 5.7.1 spam\n> QUIT\n<< 221\n< FIN", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := mta.Start(t, mta.Config{Proxy: mta.V2, Faults: []mta.Fault{c.fault}})
			p := start(t, setup{Server: srv.Addr(), Timeouts: "reply: 1s"})
			for _, listener := range []string{submissions, submission} {
				client := p.open(t, listener, "")
				client.Play(c.script)
				client.tls.Close()
				e := p.session(client.tcp.LocalAddr())
				if e.number("messages") != float64(c.mails) {
					t.Errorf("%s: log line %v", listener, e)
				}
			}
			if got := len(srv.Messages()); got != 2*c.mails {
				t.Errorf("%d messages taken", got)
			}
			p.settle()
		})
	}
}

// A plain server that gets a v1 header answers it like any other line it does
// not know. Even if the client's first command is on its way before that, no
// mail goes through with the replies shifted by one and the client's address
// lost.
func TestShiftedReplies(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Faults: []mta.Fault{{At: "PROXY", Pause: talk.Quiet}}})
	p := start(t, setup{Server: srv.Addr(), Backend: "proxy_protocol: v1"})
	for _, listener := range []string{submissions, submission} {
		c := p.seal(t, listener, "")
		c.Send("EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nbody\r\n.\r\n")
		if heard := c.Drain(); !strings.Contains(heard, "421 ") || strings.Contains(heard, "354 ") {
			t.Errorf("%s: hears %q", listener, heard)
		}
		c.tls.Close()
		if e := p.session(c.tcp.LocalAddr()); e.text("outcome") != "violation" {
			t.Errorf("%s: log line %v", listener, e)
		}
	}
	srv.WaitIdle(t)
	if got := srv.Messages(); len(got) > 0 {
		t.Errorf("%d messages taken", len(got))
	}
}

// A reply that comes while the session rests is not taken for the answer to
// what is asked next.
func TestReplyUnasked(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Faults: []mta.Fault{{After: "MAIL", Pause: talk.Quiet, Say: "250 2.0.0 really\r\n"}}})
	p := start(t, setup{Server: srv.Addr()})
	c := p.open(t, submissions, "")
	c.Play("> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 250 2.1.0")
	srv.WaitConnection(t, 1, func(c *mta.Connection) bool { return strings.Contains(string(c.Out()), "really") })
	c.Play("> RCPT TO:<b@example.test>\n<< 421\n< FIN")
	c.tls.Close()
	if e := p.session(c.tcp.LocalAddr()); e.text("outcome") != "violation" {
		t.Errorf("log line %v", e)
	}
	if got := srv.WaitEnd(t, 1); got.Said("RCPT") {
		t.Errorf("the backend heard %s", got.String())
	}
}

// Two replies for one command are noticed before they can shift all others.
func TestTwoRepliesForOneCommand(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Faults: []mta.Fault{{At: "NOOP", Twice: true}}})
	p := start(t, setup{Server: srv.Addr()})
	c := p.open(t, submissions, "")
	c.greet()
	c.Play("> NOOP\n<< 250\n> VRFY x\n<< 421\n< FIN")
	c.tls.Close()
	if e := p.session(c.tcp.LocalAddr()); e.text("outcome") != "violation" {
		t.Errorf("log line %v", e)
	}
}

// All that must not be seen through a TLS terminator is taken out of the EHLO
// reply, and the rest stays in its order; the verbs are refused.
func TestHiddenExtensions(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Extensions: mta.Everything})
	p := start(t, setup{Server: srv.Addr(), Backend: "proxy_protocol: 'off', hide_extensions: [X-EXPS, XRDST, 'XPROXY*', XSHADOW, XSHADOWREQUEST, XSESSIONPARAMS]"})
	c := p.open(t, submissions, "")
	got := c.greet()
	for i := range got {
		got[i] = got[i][4:]
	}
	want := []string{
		"PIPELINING", "SIZE 104857600", "8BITMIME", "AUTH PLAIN LOGIN SCRAM-SHA-256 CRAM-MD5", "AUTH=PLAIN LOGIN",
		"ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "BINARYMIME", "SMTPUTF8", "HELP",
	}
	if !slices.Equal(got, want) {
		t.Errorf("announced:\n%q, want\n%q", got, want)
	}
	for _, verb := range []string{
		"XCLIENT ADDR=127.0.0.1", "XFORWARD ADDR=127.0.0.1", "X-ANONYMOUSTLS", "XEXCH50 4 2", "TURN", "ATRN", "LHLO x", "xclient name=x",
		"X-EXPS GSSAPI", "XRDST x", "XPROXYFROM x", "XSHADOW x",
	} {
		c.Play("> " + verb + "\n<< 502")
	}
	c.Play("> STARTTLS\n<< 503")
	c.quit()
	for _, line := range srv.WaitEnd(t, 1).Commands {
		if verb, _, _ := strings.Cut(line, " "); verb != "EHLO" && verb != "QUIT" {
			t.Errorf("the backend heard %q", line)
		}
	}
}

// The same with Postfix, which trusts our address: XCLIENT would let a client
// take any other.
func TestPostfixXCLIENTIsHidden(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("xclient"), Backend: "proxy_protocol: 'off'"})
	c := p.open(t, submission, "")
	for _, line := range c.greet() {
		if strings.Contains(line, "XCLIENT") {
			t.Errorf("announced: %q", line)
		}
	}
	c.Play("> XCLIENT ADDR=198.51.100.70\n<< 502\n> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.com>\n<< 554")
	c.quit()
}

// A backend that looks for the header once, or loses what shares its segment,
// is served: the header is one segment, and nothing follows until it greets.
func TestFastidiousBackends(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		srv := mta.Start(t, mta.Config{Proxy: mta.Proxy(version), PeekOnce: true, SwallowBehind: true, GreetDelay: 200 * time.Millisecond})
		p := start(t, setup{Server: srv.Addr(), Backend: "proxy_protocol: " + version})
		for n, listener := range []string{submissions, submission} {
			c := p.seal(t, listener, "")
			// The client, too, talks before it is greeted.
			c.Send("EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
			if listener == submissions {
				c.Play("<< 220")
			}
			c.Play("<< 250\n<< 250\n<< 250\n<< 354\n> body\n> .\n<< 250")
			c.quit()
			got := srv.WaitEnd(t, n+1)
			if got.Early != 0 || got.Header.Segments != 1 {
				t.Errorf("%s %s: %d octets before the greeting, header in %d segments", version, listener, got.Early, got.Header.Segments)
			}
		}
		if n := len(srv.Messages()); n != 2 {
			t.Errorf("%s: %d messages", version, n)
		}
	}
}
