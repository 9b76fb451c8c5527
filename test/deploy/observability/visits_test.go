package observability

import (
	"crypto/tls"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A visit is how a client behaves, what the log says of it, and whether
// fail2ban's modes may ban its address.
type visit struct {
	name, at           string
	play               func(*testing.T, net.Conn)
	outcome, violation string
	normal, aggressive bool // banned in this mode
}

// tooLong is more than a command line may have.
var tooLong = strings.Repeat("x", 20<<10)

// forged is a name that a client gives itself to have another banned.
const forged = `x","client":"192.0.2.66:1","phase":"body","outcome":"violation","violation":"smuggling","error":"`

var visits = []visit{
	{"a web client", "submission", clear("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "violation", "junk", true, true},
	{"a web client at 465", "submissions", raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "tls_failed", "junk", true, true},
	{"a web client by IPv6", "six", clear("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "violation", "junk", true, true},
	{"many commands", "submission", clear(repeated("NOOP\r\n")...), "violation", "too_many_commands", true, true},
	{"an injection", "submission", clear("EHLO x\r\n", "STARTTLS\r\nMAIL FROM:<a@example.org>\r\n"), "violation", "cleartext_behind_starttls", true, true},
	{"smuggling", "submissions", sealed(append(envelope, "DATA\r\n", "Subject: x\r\n\r\nx\n.\r\nMAIL FROM:<b@example.org>\r\n.\r\n")...), "violation", "smuggling", true, true},
	{"a strange BDAT", "submissions", sealed(append(envelope, "BDAT +3\r\n")...), "violation", "bad_bdat", true, true},
	{"a long line", "submissions", sealed("EHLO x\r\n", tooLong+"\r\n"), "violation", "bad_command_line", true, true},
	{"what is hidden, again and again", "submissions", sealed(repeated("XCLIENT ADDR=192.0.2.66\r\n")...), "violation", "too_many_refused_commands", true, true},

	{"without TLS", "submission", clear("EHLO x\r\n"), "no_tls", "", false, true},
	{"an old TLS", "submissions", handshake(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}), "tls_failed", "", false, true},

	{"a load balancer", "submission", clear("PROXY TCP4 192.0.2.66 192.0.2.67 1 2\r\n"), "violation", "junk", false, false},
	{"a load balancer at 465", "submissions", raw("PROXY TCP4 192.0.2.66 192.0.2.67 1 2\r\n"), "violation", "junk", false, false},
	{"TLS at 587", "submission", handshake(&tls.Config{InsecureSkipVerify: true}), "violation", "wrong_mode", false, false},
	{"no TLS at 465", "submissions", raw("EHLO x\r\n"), "tls_failed", "wrong_mode", false, false},
	{"a mail server that expects another PROXY header", "stranger", sealed("EHLO x\r\n"), "backend_closed", "backend_proxy_mismatch", false, false},
	{"a wrong password", "submissions", sealed("EHLO x\r\n", "AUTH PLAIN AGFsaWNlAHdyb25n\r\n", "AUTH PLAIN AGFsaWNlAHdyb25n\r\n", "QUIT\r\n"), "completed", "", false, false},
	{"mail", "submissions", sealed(append(envelope, "DATA\r\n", "Subject: x\r\n\r\nx\r\n.\r\n", "QUIT\r\n")...), "completed", "", false, false},
	{"who calls itself a log line", "submissions", sealed("EHLO "+forged+"\r\n", "QUIT\r\n"), "completed", "", false, false},
}

var envelope = []string{"EHLO x\r\n", "MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.org>\r\n"}

// repeated is more than anybody says a thing that leads nowhere.
func repeated(text string) []string { return slices.Repeat([]string{text}, 200) }

// raw says something before anything was heard, and listens to the end.
func raw(text string) func(*testing.T, net.Conn) {
	return func(_ *testing.T, c net.Conn) {
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

// clear says one thing after another, once something was heard; how far it
// comes is the log's to say.
func clear(texts ...string) func(*testing.T, net.Conn) {
	return func(_ *testing.T, c net.Conn) {
		answer := make([]byte, 4<<10)
		for _, text := range texts {
			if _, err := c.Read(answer); err != nil {
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
		c.Read(answer)
	}
}

func handshake(config *tls.Config) func(*testing.T, net.Conn) {
	return func(_ *testing.T, c net.Conn) { tls.Client(c, config).Handshake() }
}

// sealed is clear over TLS.
func sealed(texts ...string) func(*testing.T, net.Conn) {
	return func(t *testing.T, c net.Conn) {
		over := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := over.Handshake(); err != nil {
			t.Error(err)
			return
		}
		clear(texts...)(t, over)
	}
}

// A caller is a visit that was made: the address, and the line it left.
type caller struct {
	visit
	ip, line string
}

// visitAll makes visits, each from an address of its own but by IPv6.
func (p *process) visitAll(t *testing.T, visits ...visit) (all []caller) {
	t.Helper()
	for i, v := range visits {
		from := &net.TCPAddr{IP: net.IPv4(127, 9, 0, byte(i+1))}
		if v.at == "six" {
			from = &net.TCPAddr{IP: net.IPv6loopback}
		}
		conn, err := (&net.Dialer{LocalAddr: from, Timeout: patience}).Dial("tcp", p.addrs[v.at])
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		v.play(t, conn)
		conn.Close()
		line := p.ended(t, conn.LocalAddr())
		if got := field(line, "outcome") + " " + field(line, "violation"); got != v.outcome+" "+v.violation {
			t.Errorf("%s: %q, want %q %q:\n%s", v.name, got, v.outcome, v.violation, line)
		}
		all = append(all, caller{v, from.IP.String(), line})
	}
	return all
}

func field(line, name string) string {
	found := regexp.MustCompile(`"` + name + `": ?"(\w+)"`).FindStringSubmatch(line)
	if found == nil {
		return ""
	}
	return found[1]
}
