package exim

import (
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"strings"
	"testing"

	"smtpseal/test/loopback"

	"github.com/pires/go-proxyproto"
)

const user, password = "alice@" + Domain, "s3cret word"

// listening makes an Exim with a port of its own, and further local lines in
// which $PORT is that port.
func listening(t *testing.T, local string) (*Server, string) {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	local = strings.ReplaceAll("daemon_smtp_ports = $PORT\n"+local, "$PORT", port)
	return Start(t, Config{Local: local, Users: map[string]string{user: password}}), addr
}

// Debian's Exim delivers, trusts loopback, and offers passwords only by TLS.
func TestDebiansConfiguration(t *testing.T) {
	srv, addr := listening(t, "tls_advertise_hosts =\n")
	if err := smtp.SendMail(addr, nil, "sender@example.org", []string{"one@" + Domain}, []byte("Subject: one\r\n\r\nbody\r\n")); err != nil {
		t.Fatal(err)
	}
	text := srv.WaitMail(t, "one@"+Domain)
	if !strings.Contains(text, "\nSubject: one\n") || !strings.HasSuffix(text, "\n\nbody\n") || !strings.Contains(text, "[127.0.0.1]") {
		t.Errorf("delivered:\n%s", text)
	}
	srv.WaitLog(t, `<= sender@example\.org H=.*\[127\.0\.0\.1\]`)
	client, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if offered, mechanisms := client.Extension("AUTH"); offered {
		t.Errorf("AUTH %s without TLS", mechanisms)
	}
	if err := relay(client); err != nil {
		t.Errorf("Debian lets 127.0.0.1 relay: %v", err)
	}
}

func TestProxyHeaderAndLogin(t *testing.T) {
	srv, addr := listening(t, "hosts_proxy = 127.0.0.1\nAUTH_SERVER_ALLOW_NOTLS_PASSWORDS = yes\n")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	header := proxyproto.HeaderProxyFromAddrs(2, tcpAddr("203.0.113.9:5000"), tcpAddr("198.51.100.1:465"))
	if _, err := header.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := relay(client); !strings.Contains(fmt.Sprint(err), "relay not permitted") {
		t.Errorf("a stranger may relay: %v", err)
	}
	srv.WaitLog(t, `\[203\.0\.113\.9\] F=<sender@example\.org> rejected RCPT`)
	client.Reset()
	if err := client.Auth(smtp.PlainAuth("", user, "wrong", "localhost")); err == nil {
		t.Error("a wrong password is taken")
	}
}

func TestPasswordIsKnown(t *testing.T) {
	_, addr := listening(t, "AUTH_SERVER_ALLOW_NOTLS_PASSWORDS = yes\nMAIN_RELAY_NETS = :\n")
	client, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if err := relay(client); err != nil {
		t.Error(err)
	}
}

func TestBadConfigurationIsReported(t *testing.T) {
	_, err := run(Config{Local: "no_such_option = 1\n"})
	if err == nil || !strings.Contains(err.Error(), "no_such_option") {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	var srv *Server
	var pid int
	t.Run("one", func(t *testing.T) {
		s, addr := listening(t, "")
		if _, err := net.Dial("tcp", addr); err != nil { // a session that nobody ends
			t.Fatal(err)
		}
		srv, pid = s, s.process.Process.Pid
	})
	if _, err := os.Stat(srv.dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", srv.dir, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !os.IsNotExist(err) {
		t.Errorf("process %d: %v", pid, err)
	}
}

func relay(client *smtp.Client) error {
	if err := client.Mail("sender@example.org"); err != nil {
		return err
	}
	return client.Rcpt("victim@example.com")
}

func tcpAddr(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
