package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"smtpseal/test/mta"
)

// The ways for a client to go.
var ways = map[string]func(*client){
	"FIN": func(c *client) { // without close_notify: TLS truncation
		c.tcp.CloseWrite()
		c.Drain()
		c.tcp.Close()
	},
	"RST": func(c *client) {
		c.tcp.SetLinger(0)
		c.tcp.Close()
	},
	"close_notify": func(c *client) {
		c.tls.CloseWrite()
		c.Drain()
		c.tls.Close()
	},
}

// A message that was cut short at any point of DATA or BDAT is never delivered:
// the backend sees its connection torn down, no end of data and no QUIT.
func TestCutMessageIsNeverDelivered(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr(), Limits: "max_sessions_per_client: 1000"})
	data := string(stuffed([]byte("a: b\r\n\r\n.x\r\n")))
	chunked := "BDAT 10\r\na: b\r\n\r\n.xBDAT 4 LAST\r\n\r\n.\r"
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for cut := range data {
				c, helo := p.body(t, fmt.Sprintf("data-%s-%d", strings.ToLower(name), cut), cut)
				c.Play("> DATA\n<< 354")
				c.Send(data[:cut])
				leave(c)
				tornDown(t, srv, helo, []byte("a: b\r\n\r\n.x\r\n"))
			}
			for cut := range chunked {
				c, helo := p.body(t, fmt.Sprintf("bdat-%s-%d", strings.ToLower(name), cut), cut)
				c.Send(chunked[:cut])
				leave(c)
				tornDown(t, srv, helo, []byte("a: b\r\n\r\n.x\r\n.\r"))
			}
		})
	}
	t.Cleanup(func() {
		srv.WaitIdle(t)
		for _, m := range srv.Messages() {
			t.Errorf("delivered: %q, from %s", m.Body, m.Helo)
		}
		p.settle()
	})
}

// body begins a session whose EHLO name tells it from others, and goes as far
// as the first recipient.
func (p *process) body(t *testing.T, helo string, n int) (*client, string) {
	t.Helper()
	c := p.open(t, []string{submissions, submission, mx}[n%3], "")
	c.Play("> EHLO " + helo + "\n<< 250")
	c.envelope("a@example.test")
	return c, helo
}

func tornDown(t *testing.T, srv *mta.Server, helo string, whole []byte) {
	t.Helper()
	got := srv.Find(t, func(c *mta.Connection) bool { return c.Helo == helo && c.End != mta.Open })
	if got.End != mta.ClientReset && got.End != mta.ClientClosed || got.Said("QUIT") || got.Said("RSET") {
		t.Errorf("the backend heard %s", got.String())
	}
	if !bytes.HasPrefix(whole, got.Unfinished) {
		t.Errorf("%s: the backend got %q", helo, got.Unfinished)
	}
}

// The same with Postfix, which is not so easily told what to think.
func TestPostfixDropsCutMessage(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy")})
	for name, leave := range ways {
		for verb, text := range map[string]string{
			"DATA": "Subject: cut\r\n\r\nbody\r\n.\r", "BDAT": "BDAT 20\r\nSubject: cut\r\n\r\nbodyBDAT 10 LAST\r\n012345678",
		} {
			to := recipient("cut-" + name + "-" + verb)
			c := p.open(t, submissions, "")
			c.greet()
			c.envelope(to)
			if verb == "DATA" {
				c.Play("> DATA\n<< 354")
			}
			c.Send(text)
			leave(c)
			_, port, _ := strings.Cut(c.tcp.LocalAddr().String(), ":")
			mailbox.WaitLog(t, `lost connection after `+verb+`.* from unknown\[127\.0\.0\.1\]:`+port)
			for _, m := range mailbox.Delivered(t) {
				if m.Recipient == to {
					t.Errorf("delivered: %q", m.Content)
				}
			}
		}
	}
	p.settle()
}
