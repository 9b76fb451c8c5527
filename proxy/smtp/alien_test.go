package smtp

import (
	"strings"
	"testing"
)

func TestAlienIn(t *testing.T) {
	for text, want := range map[string]Alien{
		"": "", "E": "", "EHLO client\r\n": "", "PROXY\r\n": "", "PROXYING x": "", "proxy tcp4": "", "\r\n": "", "\r\n\r\n": "",
		"\r\n\r\nQUIT": "", "GET": "", "GETTER x\r\n": "", "GET\r\n": "", "PUT\tx": "", "HELO GET /": "", "\x15\x03\x01": "", "\x80\x2e\x01": "",
		"\x16": AlienTLS, "\x16\x03\x01\x02\x00": AlienTLS, "\x16\x00": AlienTLS,
		"PROXY ": AlienPROXY, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n": AlienPROXY, "PROXY UNKNOWN\r\n": AlienPROXY,
		"\r\n\r\n\x00": AlienPROXY, "\r\n\r\n\x00\r\nQUIT\n\x21\x11": AlienPROXY,
		"GET / HTTP/1.1\r\n": AlienHTTP, "post / HTTP/1.0": AlienHTTP, " GET /": AlienHTTP, "HEAD *": AlienHTTP, "PUT x": AlienHTTP,
		"DELETE x": AlienHTTP, "OPTIONS * HTTP/1.1": AlienHTTP, "CONNECT a:25 HTTP/1.1": AlienHTTP, "TRACE x": AlienHTTP,
		"PATCH x": AlienHTTP, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": AlienHTTP,
	} {
		if got := AlienIn([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// No command of SMTP may be taken for something else, whole or cut.
func TestAlienInNoCommand(t *testing.T) {
	for _, name := range commandNames {
		for _, line := range []string{name + " x\r\n", strings.ToLower(name) + "\r\n", " " + name + "\n"} {
			for cut := range len(line) + 1 {
				if got := AlienIn([]byte(line[:cut])); got != "" {
					t.Errorf("%q: %q", line[:cut], got)
				}
			}
		}
	}
}

// The first five octets, which is what a TLS record's header takes, tell plain
// SMTP from noise.
func TestLooksLikeSMTP(t *testing.T) {
	for _, text := range []string{"EHLO ", "EHLO\r", "ehlo ", "HELO ", "QUIT\r", "NOOP\n", "STARTTLS\r\n", "START", "AUTH ", "MAIL ", "XCLIE", "HELP\r"} {
		if !LooksLikeSMTP([]byte(text)) {
			t.Errorf("%q is not taken for SMTP", text)
		}
	}
	for _, text := range []string{"", "E", "EHL", "GET /", "SSH-2", "EHLOX", "\x16\x03\x01\x02\x00", "\x00\x00\x00\x00\x00", "POST ", "     ", "EHL O"} {
		if LooksLikeSMTP([]byte(text)) {
			t.Errorf("%q is taken for SMTP", text)
		}
	}
}

func TestKeywords(t *testing.T) {
	list := Keywords{"X-EXPS", "XPROXY*", "DSN"}
	for word, want := range map[string]bool{
		"X-EXPS": true, "x-exps": true, "X-EXP": false, "X-EXPSS": false, "XPROXY": true, "XPROXYFROM": true, "xproxyto": true,
		"XPROX": false, "DSN": true, "": false, "*": false,
	} {
		if got := list.Has([]byte(word)); got != want {
			t.Errorf("%q: %v", word, got)
		}
	}
	if (Keywords{}).Has(nil) || !(Keywords{"*"}).Has([]byte("ANY")) || (Keywords{""}).Has([]byte("ANY")) {
		t.Error("an empty list has a word, or * not all of them")
	}
}
