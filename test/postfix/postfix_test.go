package postfix

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// services has one of each kind that other packages use.
var services = Config{
	Services: []Service{
		{Name: "plain", SASL: true},
		{Name: "proxy", Proxy: true, SASL: true},
		{Name: "proxy6", Proxy: true, Host: "::1"},
		{Name: "xclient", Options: []string{"smtpd_authorized_xclient_hosts=127.0.0.0/8"}},
	},
	Users: map[string]string{"alice@" + Domain: "s3cret word"},
}

const content = "Subject: one\r\n\r\n.leading dot\r\n\xff\x80 8 bit\r\n..\r\n"

func TestMailArrivesOctetByOctet(t *testing.T) {
	srv := Start(t, services)
	for name, auth := range map[string]smtp.Auth{
		"nobody": nil,
		"plain":  smtp.PlainAuth("", "alice@"+Domain, "s3cret word", "127.0.0.1"),
		"cram":   smtp.CRAMMD5Auth("alice@"+Domain, "s3cret word"),
	} {
		t.Run(name, func(t *testing.T) {
			to := name + "@" + Domain
			if err := smtp.SendMail(srv.Addr("plain"), auth, "sender@example.org", []string{to}, []byte(content)); err != nil {
				t.Fatal(err)
			}
			m := srv.WaitMail(t, to)
			if want := strings.ReplaceAll(content, "\r\n", "\n"); string(m.Content) != want {
				t.Errorf("got %q, want %q", m.Content, want)
			}
			if m.Sender != "sender@example.org" || !strings.Contains(m.Received, "[127.0.0.1]") {
				t.Errorf("%+v", m)
			}
			srv.WaitLog(t, m.QueueID+`: client=unknown\[127\.0\.0\.1\]`)
		})
	}
}

func TestProxyHeaderNamesTheClient(t *testing.T) {
	srv := Start(t, services)
	for _, c := range []struct {
		service, source, destination string
		version                      byte
	}{
		{"proxy", "203.0.113.7:5000", "198.51.100.1:465", 1},
		{"proxy", "203.0.113.8:5001", "198.51.100.1:465", 2},
		{"proxy6", "[2001:db8::9]:5002", "[2001:db8::1]:465", 2},
	} {
		conn, err := net.Dial("tcp", srv.Addr(c.service))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		source, destination := tcpAddr(c.source), tcpAddr(c.destination)
		if _, err := proxyproto.HeaderProxyFromAddrs(c.version, source, destination).WriteTo(conn); err != nil {
			t.Fatal(err)
		}
		client, err := smtp.NewClient(conn, "postfix")
		if err != nil {
			t.Fatal(err)
		}
		to := fmt.Sprintf("port%d@%s", source.Port, Domain)
		deliver(t, client, to)
		m := srv.WaitMail(t, to)
		if !strings.Contains(m.Received, source.IP.String()+"]") {
			t.Errorf("%s: %s", c.source, m.Received)
		}
		srv.WaitLog(t, fmt.Sprintf(`connect from unknown\[%s\]:%d`, source.IP, source.Port))
		if err := relay(client); !strings.Contains(fmt.Sprint(err), "Relay access denied") {
			t.Errorf("%s may relay: %v", c.source, err)
		}
	}
}

// Without the header Postfix says 421, and XCLIENT is offered only where it was
// asked for.
func TestServicesDiffer(t *testing.T) {
	srv := Start(t, services)
	conn, err := textproto.Dial("tcp", srv.Addr("proxy"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.PrintfLine("EHLO x")
	if line, err := conn.ReadLine(); !strings.HasPrefix(line, "421 4.3.0") {
		t.Errorf("without a header: %q, %v", line, err)
	}
	for service, want := range map[string]bool{"plain": false, "xclient": true} {
		client, err := smtp.Dial(srv.Addr(service))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if got, _ := client.Extension("XCLIENT"); got != want {
			t.Errorf("%s offers XCLIENT: %v", service, got)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	srv, err := Run(services)
	if err != nil {
		t.Fatal(err)
	}
	client, err := smtp.Dial(srv.Addr("plain")) // starts smtpd and anvil
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	if left := leftOf(t, srv.dir); left != "" {
		t.Error(left)
	}
	if !strings.Contains(srv.Log(), "daemon started") {
		t.Errorf("the log is gone: %q", srv.Log())
	}
}

// killed names the environment variable that makes this test program a victim.
const killed = "POSTFIX_TEST_TO_BE_KILLED"

// Nothing is left when the test program is killed, either: its end of the pipe
// is all that keeps Postfix up.
func TestNothingIsLeftOfAKilledTest(t *testing.T) {
	if os.Getenv(killed) != "" {
		fmt.Println(Start(t, services).dir)
		select {}
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeftOfAKilledTest$")
	victim.Env = append(os.Environ(), killed+"=yes")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	dir := strings.TrimSpace(line)
	victim.Process.Kill()
	victim.Wait()
	if err != nil || !filepath.IsAbs(dir) {
		t.Fatalf("the victim said %q, %v", line, err)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(10 * time.Second); leftOf(t, dir) != ""; <-again.C {
		if time.Now().After(end) {
			t.Fatal(leftOf(t, dir))
		}
	}
}

// leftOf tells what is left of a Postfix that ran in dir: nothing, one hopes.
func leftOf(t *testing.T, dir string) string {
	t.Helper()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		return fmt.Sprintf("directory %s: %v", dir, err)
	}
	programs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if line, err := os.ReadFile(program); err == nil && bytes.Contains(line, []byte(dir)) {
			return fmt.Sprintf("%s: %q", program, line)
		}
	}
	return ""
}

func TestTakenPortIsReported(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = Run(Config{Services: []Service{{Name: "x", Options: []string{"smtpd_banner=x\n" + listener.Addr().String() + " inet n - n - - smtpd"}}}})
	if err == nil || !strings.Contains(err.Error(), "taken?") {
		t.Errorf("got %v", err)
	}
}

func deliver(t *testing.T, client *smtp.Client, to string) {
	t.Helper()
	if err := client.Mail("sender@example.org"); err != nil {
		t.Fatal(err)
	}
	if err := client.Rcpt(to); err != nil {
		t.Fatal(err)
	}
	body, err := client.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(body, content); err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
}

func relay(client *smtp.Client) error {
	if err := client.Mail("sender@example.org"); err != nil {
		return err
	}
	return client.Rcpt("victim@example.com")
}

func tcpAddr(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
