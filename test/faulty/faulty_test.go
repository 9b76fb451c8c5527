package faulty

import (
	"crypto/tls"
	"net/smtp"
	"testing"
)

// A right server takes mail by TLS, keeps it, and does not relay. That a fault
// is one, and the only one, is shown by the tests of package probe.
func TestRightServerTakesMail(t *testing.T) {
	s := Start(t, Config{Mode: "starttls"})
	c, err := smtp.Dial(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{ServerName: Name, RootCAs: s.Roots()}); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("a@example.org"); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt("b@example.net"); err == nil {
		t.Error("relays")
	}
	if err := c.Rcpt("b@" + Domain); err != nil {
		t.Fatal(err)
	}
	body, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	body.Write([]byte("Subject: one\r\n\r\n.\r\n"))
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	if mail := s.Delivered(); len(mail) != 1 {
		t.Errorf("delivered %q", mail)
	}
}
