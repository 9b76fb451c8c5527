package demo

import (
	"bufio"
	"context"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"smtpseal/test/talk"
)

// serve runs an MTA until the test ends.
func serve(t *testing.T) (addr string, taken chan Message) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken = make(chan Message, 8)
	m := MTA{Name: "mta.example", Deliver: func(m Message) { taken <- m }}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := m.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return ln.Addr().String(), taken
}

func dial(t *testing.T, addr string) (net.Conn, *talk.Talker) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, talk.With(t, conn)
}

// introduction is the header that smtpseal would send.
func introduction(t *testing.T, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 5000}, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 465})
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func ssl(t *testing.T) proxyproto.TLV {
	t.Helper()
	tlv, err := tlvparse.PP2SSL{Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, TLV: []proxyproto.TLV{
		{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")},
		{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte("TLS_AES_128_GCM_SHA256")},
	}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return tlv
}

func TestMTATakesAMessage(t *testing.T) {
	addr, taken := serve(t)
	conn, talker := dial(t, addr)
	raw := introduction(t, ssl(t), proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("mail.example")},
		proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte("0123")})
	conn.Write(raw)
	talker.Play(`
		< 220 mta.example
		> ehlo client.example
		<< 250 SMTPUTF8
		> MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME
		< 250
		> rcpt to: <b@example.org>
		< 250
		> RCPT TO:<c@example.org>
		< 250
		> DATA
		< 354
		> ..dot
		> .
		< 250 2.0.0 6 bytes
		> NOOP
		< 250
		> VRFY a
		< 252
		> QUIT
		< 221
		< FIN`)
	got := <-taken
	want := Message{Helo: "client.example", From: "<a@example.org>", To: []string{"<b@example.org>", "<c@example.org>"},
		Text: []byte(".dot\r\n"), Header: Header{Family: "TCPv4", Client: "203.0.113.7:5000", Server: "198.51.100.1:465",
			TLS: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", Authority: "mail.example", UniqueID: "0123", Size: len(raw)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestMTADemandsTheOrderOfCommands(t *testing.T) {
	addr, taken := serve(t)
	conn, talker := dial(t, addr)
	conn.Write(introduction(t))
	talker.Play(`
		< 220
		> MAIL FROM:<a@example.org>
		< 503
		> EHLO client.example
		<< 250
		> RCPT TO:<b@example.org>
		< 503
		> DATA
		< 503
		> MAIL TO:<a@example.org>
		< 501
		> MAIL FROM:a@example.org
		< 501
		> MAIL
		< 501
		> MAIL FROM:<>
		< 250
		> MAIL FROM:<>
		< 503
		> RCPT TO:<>
		< 501
		> RCPT TO:
		< 501
		> DATA
		< 503
		> RCPT TO:<b@example.org>
		< 250
		> RSET
		< 250
		> DATA
		< 503
		> STARTTLS
		< 502
		>
		< 502
		> HELO client.example
		< 250 mta.example
		>> quit\n
		< 221
		< FIN`)
	if len(taken) > 0 {
		t.Errorf("took %+v", <-taken)
	}
}

// A client that goes in mid-message must leave no message.
func TestMTADeliversNoPartOfAMessage(t *testing.T) {
	addr, taken := serve(t)
	conn, talker := dial(t, addr)
	conn.Write(introduction(t))
	talker.Play("< 220\n> HELO c\n< 250\n> MAIL FROM:<>\n< 250\n> RCPT TO:<b@example.org>\n< 250\n> DATA\n< 354\n> half\n>> .\\r")
	conn.(*net.TCPConn).CloseWrite()
	talker.Play("< FIN")
	if len(taken) > 0 {
		t.Errorf("took %+v", <-taken)
	}
}

func TestMTADemandsAClientInTheHeader(t *testing.T) {
	for name, first := range map[string]string{
		"plain SMTP": "EHLO client.example\r\n",
		"v1":         "PROXY TCP4 203.0.113.7 198.51.100.1 5000 465\r\n",
		"half":       string(introduction(t)[:20]),
	} {
		addr, _ := serve(t)
		conn, talker := dial(t, addr)
		conn.Write([]byte(first))
		conn.(*net.TCPConn).CloseWrite()
		if got := talker.Expect("421 4.3.0 mta.example PROXY header expected"); got == "" {
			t.Error(name)
		}
	}
}

// The health checks of smtpseal come with one. Without an answer the demo would
// begin with a warning that its mail server is down.
func TestMTAAnswersAHeaderWithoutAClient(t *testing.T) {
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := serve(t)
	conn, talker := dial(t, addr)
	conn.Write(local)
	talker.Play("< 220\n> EHLO localhost\n<< 250\n> QUIT\n< 221\n< FIN")
}

func TestMTABounds(t *testing.T) {
	addr, _ := serve(t)
	conn, talker := dial(t, addr)
	conn.Write(introduction(t))
	talker.Play("< 220\n> HELO c\n< 250\n> MAIL FROM:<>\n< 250")
	for range maxRecipients {
		talker.Play("> RCPT TO:<b@example.org>\n< 250")
	}
	talker.Play("> RCPT TO:<b@example.org>\n< 452")
	talker.Send(strings.Repeat("x", maxLine))
	talker.Play("< 500\n< END")

	var others []net.Conn
	for range maxConnections {
		conn, talker := dial(t, addr)
		conn.Write(introduction(t))
		talker.Play("< 220")
		others = append(others, conn)
	}
	_, talker = dial(t, addr)
	talker.Play("< END") // no room
	others[0].Close()
}

func TestMTAEndsItsSessionsWithItself(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- (&MTA{Name: "m"}).Serve(ctx, ln) }()
	conn, talker := dial(t, ln.Addr().String())
	conn.Write(introduction(t))
	talker.Play("< 220")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	talker.Play("< END")
}

func TestHeaderLinesQuoteWhatAClientChose(t *testing.T) {
	h := Header{Family: "TCPv6", Client: "[2001:db8::1]:1", Server: "[2001:db8::2]:465", Authority: "a\x1b[31m", Size: 9}
	want := []string{"PROXY v2, TCPv6, 9 bytes", "client     [2001:db8::1]:1", "server     [2001:db8::2]:465", `authority  "a\x1b[31m"`}
	if got := h.Lines(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestHeaderOfIPv6WithoutTLS(t *testing.T) {
	raw, err := proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5000},
		&net.TCPAddr{IP: net.ParseIP("2001:db8::2"), Port: 587}).Format()
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(strings.NewReader(string(raw) + "rest"))
	h, err := readHeader(in)
	want := Header{Family: "TCPv6", Client: "[2001:db8::1]:5000", Server: "[2001:db8::2]:587", Size: len(raw)}
	if err != nil || h != want {
		t.Errorf("%+v, %v", h, err)
	}
	if rest, _ := in.Peek(4); string(rest) != "rest" {
		t.Errorf("the header took more than itself: %q", rest)
	}
}
