package mta

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"smtpseal/test/talk"
)

// dial returns a client that plays dialogues, and its connection.
func dial(t *testing.T, srv *Server) (*talk.Talker, net.Conn) {
	t.Helper()
	conn, err := net.Dial(srv.listener.Addr().Network(), srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return talk.With(t, conn), conn
}

// play is for dialogues of which only the words matter.
func play(t *testing.T, srv *Server, script string) {
	t.Helper()
	client, _ := dial(t, srv)
	client.Play(script)
}

// hello is the start of most dialogues.
const hello = `
	< 220 mta.example.test
	> HELO client
	< 250 mta
`

// toRcpt goes on to the body.
const toRcpt = hello + `
	> MAIL FROM:<a@example.org>
	< 250 2.1.0
	> RCPT TO:<b@example.org>
	< 250 2.1.5
`

func TestMailIsKeptOctetByOctet(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			srv := Start(t, Config{Network: network})
			c, _ := dial(t, srv)
			c.Play(toRcpt + `
				> RCPT TO:<c@example.org> NOTIFY=NEVER
				< 250
				> DATA
				< 354
				>> ..one\r\ntwo\rthree\nfour\0\r\n...\r\n\n.\r\n.x\r\n.\r\n
				< 250 2.0.0 Ok: queued as 1
				> QUIT
				< 221
				< FIN
			`)
			got := srv.WaitMessage(t)
			if want := ".one\r\ntwo\rthree\nfour\x00\r\n..\r\n\n.\r\nx\r\n"; string(got.Body) != want {
				t.Errorf("body %q, want %q", got.Body, want)
			}
			if got.From != "<a@example.org>" || len(got.To) != 2 || got.To[1] != "<c@example.org> NOTIFY=NEVER" || got.Helo != "client" {
				t.Errorf("envelope %+v", got)
			}
			end := srv.WaitEnd(t, 1)
			if end.End != Quit || !strings.HasSuffix(string(end.In()), "\r\n.\r\nQUIT\r\n") || !strings.HasPrefix(string(end.Out()), "220 ") {
				t.Errorf("record: %s", end.String())
			}
		})
	}
}

func TestChunksAreCountedAndKept(t *testing.T) {
	srv := Start(t, Config{})
	play(t, srv, toRcpt+`
		>> BDAT 6\r\nab\r\n.\r
		< 250 2.0.0 6 octets
		>> BDAT 3\r\n\ncd
		< 250 2.0.0 3 octets
		> BDAT 0 LAST
		< 250 2.0.0 Ok
		>> BDAT 5 LAST\r\nQUIT\nNOOP\r\n
		< 503
		< 250
	`)
	got := srv.WaitMessage(t)
	if string(got.Body) != "ab\r\n.\r\ncd" || len(got.Chunks) != 3 {
		t.Errorf("got %q in chunks %v", got.Body, got.Chunks)
	}
}

func TestPipelinedCommandsAreAnsweredInOrder(t *testing.T) {
	srv := Start(t, Config{})
	c, _ := dial(t, srv)
	c.Play(`
		< 220
		>> EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nNOPE\r\nDATA\r\n
		< 250-mta.example.test
		< 250-PIPELINING
		< 250-SIZE 104857600
		< 250-8BITMIME
		< 250-ENHANCEDSTATUSCODES
		< 250-DSN
		< 250-CHUNKING
		< 250-SMTPUTF8
		< 250 AUTH PLAIN LOGIN CRAM-MD5
		< 250 2.1.0
		< 250 2.1.5
		< 500
		< 354
		>> .\r\nRSET\r\nQUIT\r\n
		< 250
		< 250
		< 221
	`)
	if got := srv.WaitEnd(t, 1); strings.Join(got.Commands, ",") != "EHLO x,MAIL FROM:<a@b>,RCPT TO:<c@d>,NOPE,DATA,RSET,QUIT" {
		t.Errorf("commands %q", got.Commands)
	}
}

func TestAuth(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	digest := func(password string) string {
		mac := hmac.New(md5.New, []byte(password))
		mac.Write([]byte("<1896.697170952@mta.example.test>"))
		return hex.EncodeToString(mac.Sum(nil))
	}
	for _, c := range []struct{ name, script, user string }{
		{"PLAIN at once", "> AUTH PLAIN " + b64("\x00alice\x00secret") + "\n< 235", "alice"},
		{"PLAIN in two steps", "> auth plain\n< 334 \n> " + b64("\x00alice\x00secret") + "\n< 235", "alice"},
		{"PLAIN, wrong", "> AUTH PLAIN " + b64("\x00alice\x00Secret") + "\n< 535", ""},
		{"PLAIN, unknown user", "> AUTH PLAIN " + b64("\x00bob\x00") + "\n< 535", ""},
		{"LOGIN", "> AUTH LOGIN\n< 334 VXNlcm5hbWU6\n> " + b64("alice") + "\n< 334 UGFzc3dvcmQ6\n> " + b64("secret") + "\n< 235", "alice"},
		{"LOGIN with a name", "> AUTH LOGIN " + b64("alice") + "\n< 334 UGFzc3dvcmQ6\n> " + b64("secret") + "\n< 235", "alice"},
		{"LOGIN, cancelled", "> AUTH LOGIN\n< 334\n> *\n< 501", ""},
		{"CRAM-MD5", "> AUTH CRAM-MD5\n< 334 " + b64(cramChallenge) + "\n> " + b64("alice "+digest("secret")) + "\n< 235", "alice"},
		{"CRAM-MD5, wrong", "> AUTH CRAM-MD5\n< 334\n> " + b64("alice "+digest("Secret")) + "\n< 535", ""},
		{"unknown mechanism", "> AUTH NTLM\n< 504", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := Start(t, Config{Users: map[string]string{"alice": "secret"}})
			play(t, srv, hello+c.script+"\n> NOOP\n< 250")
			if got := srv.Connections()[0].User; got != c.user {
				t.Errorf("user %q, want %q", got, c.user)
			}
		})
	}
}

func TestSizeIsRefused(t *testing.T) {
	srv := Start(t, Config{Size: 10})
	play(t, srv, hello+`
		> MAIL FROM:<a@b> SIZE=11
		< 552
		> MAIL FROM:<a@b> SIZE=10
		< 250
		> RCPT TO:<c@d>
		< 250
		> DATA
		< 354
		> 123456789
		> .
		< 552
		> MAIL FROM:<a@b>
		< 250
	`)
	if got := srv.Messages(); len(got) != 0 {
		t.Errorf("accepted %v", got)
	}
}

// What smuggles one mail behind another on a lenient server, and does not on a
// strict one.
func TestLenientServerFallsToSmuggling(t *testing.T) {
	const second = "MAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\ntwo\r\n.\r\n"
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n.\r"} {
		for _, lenient := range []bool{true, false} {
			srv := Start(t, Config{Lenient: lenient})
			c, _ := dial(t, srv)
			c.Play(toRcpt + "> DATA\n < 354")
			c.Send("one" + end + second)
			c.Play("< 250 2.0.0")
			if lenient {
				c.Play("< 250 2.1.0\n< 250 2.1.5\n< 354\n< 250 2.0.0")
			}
			c.Play("> NOOP\n< 250")
			if got := len(srv.Messages()); got != map[bool]int{true: 2, false: 1}[lenient] {
				t.Errorf("%q, lenient %v: %d messages", end, lenient, got)
			}
		}
	}
}
