package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/talk"
)

// certified makes a certificate for a name, and a pool that trusts it.
func certified(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// A server plays its part of a dialogue with one client.
func server(t *testing.T, part func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var playing sync.WaitGroup
	playing.Go(func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		part(conn)
	})
	t.Cleanup(func() { ln.Close(); playing.Wait() })
	return ln.Addr().String()
}

const greeted = "> 220 s ESMTP\n"

const mailed = `
	< EHLO client.example
	> 250-s
	> 250 SIZE
	< MAIL FROM:<a@example.org>
	> 250 ok
	< RCPT TO:<b@example.org>
	> 250 ok
	< DATA
	> 354 go on
	< ..dot
	< .
	> 250 taken
	< QUIT
	> 221 bye
	< FIN`

var one = Mail{From: "a@example.org", To: "b@example.org", Text: []byte(".dot\r\n")}

func TestClientByTLS(t *testing.T) {
	cert, roots := certified(t, "s.example")
	addr := server(t, func(conn net.Conn) {
		talk.With(t, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})).Play(greeted + mailed)
	})
	var said []string
	c := Client{ServerName: "s.example", Roots: roots, Write: func(who Speaker, line string) { said = append(said, string(who)+" "+line) }}
	if err := c.SendTLS(t.Context(), addr, one); err != nil {
		t.Fatal(err)
	}
	want := []string{"S 220 s ESMTP", "C EHLO client.example", "S 250-s", "S 250 SIZE", "C MAIL FROM:<a@example.org>", "S 250 ok",
		"C RCPT TO:<b@example.org>", "S 250 ok", "C DATA", "S 354 go on", "C ..dot", "C .", "S 250 taken", "C QUIT", "S 221 bye"}
	if !strings.HasPrefix(said[0], "* TLS 1.3, ") || !strings.HasSuffix(said[0], "certificate for s.example verified") || !slices.Equal(said[1:], want) {
		t.Errorf("%q", said)
	}
}

func TestClientByStartTLS(t *testing.T) {
	cert, roots := certified(t, "s.example")
	addr := server(t, func(conn net.Conn) {
		talk.With(t, conn).Play(greeted + "< EHLO client.example\n> 250-s\n> 250 STARTTLS\n< STARTTLS\n> 220 go on")
		talk.With(t, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})).Play(mailed)
	})
	c := Client{ServerName: "s.example", Roots: roots, Write: func(Speaker, string) {}}
	if err := c.SendStartTLS(t.Context(), addr, one); err != nil {
		t.Fatal(err)
	}
}

// A demo that took any certificate would show nothing.
func TestClientVerifiesNameAndRoot(t *testing.T) {
	cert, roots := certified(t, "s.example")
	_, others := certified(t, "s.example")
	for name, c := range map[string]Client{
		"another name": {ServerName: "t.example", Roots: roots},
		"another root": {ServerName: "s.example", Roots: others},
	} {
		addr := server(t, func(conn net.Conn) {
			tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		})
		c.Write = func(Speaker, string) {}
		if err := c.SendTLS(t.Context(), addr, one); err == nil || !strings.Contains(err.Error(), "handshake: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// CVE-2011-0411 from the other side: words in clear must not count as said in
// TLS.
func TestClientRefusesWordsBehindSTARTTLS(t *testing.T) {
	addr := server(t, func(conn net.Conn) {
		talk.With(t, conn).Play(greeted + "< EHLO\n> 250 STARTTLS\n< STARTTLS\n>> 220 go on\\r\\n250 injected\\r\\n\n< END")
	})
	c := Client{Write: func(Speaker, string) {}}
	if err := c.SendStartTLS(t.Context(), addr, one); err == nil || !strings.Contains(err.Error(), "spoke before TLS was up") {
		t.Error(err)
	}
}

func TestClientEndsAtAReplyItDoesNotExpect(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"refused":    {"> 554 no", `answered "554 no" where 220 was expected`},
		"no reply":   {"> hello", `answered "hello" where 220 was expected`},
		"gone":       {">> 220 hal", "read reply: EOF"},
		"endless":    {">> " + strings.Repeat(`220-x\r\n`, 200), "reply without an end"},
		"no newline": {">> " + strings.Repeat("x", 5000), "read reply: bufio: buffer full"},
		"unoffered":  {"> 220 s\n< EHLO\n> 250 s\n< STARTTLS\n> 502 what", `answered "502 what" where 220 was expected`},
	} {
		addr := server(t, func(conn net.Conn) { talk.With(t, conn).Play(c.script) })
		client := Client{Write: func(Speaker, string) {}}
		if err := client.SendStartTLS(t.Context(), addr, one); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
