package smtp

import "bytes"

// An Alien is a protocol that is not SMTP, told by its first octets.
type Alien string

// What is seen on mail ports.
const (
	AlienTLS   Alien = "TLS"
	AlienHTTP  Alien = "HTTP"
	AlienPROXY Alien = "PROXY"
)

var (
	proxyV1 = []byte("PROXY ")
	proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n") // chosen by its authors to break SMTP
	methods = Keywords{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI"}
)

// AlienIn tells what the first octets of a connection are, or returns "" for
// what may be SMTP. A web page can make a browser speak HTTP to a mail port,
// and a client that sends a PROXY header speaks for others; none of it is for
// a backend to see.
func AlienIn(b []byte) Alien {
	if len(b) > 0 && b[0] == 0x16 { // RFC 8446 section 5.1: handshake
		return AlienTLS
	}
	if bytes.HasPrefix(b, proxyV1) || len(b) > 4 && bytes.HasPrefix(proxyV2, b[:min(len(b), len(proxyV2))]) {
		return AlienPROXY
	}
	if word, rest := keyword(b); len(rest) > 0 && rest[0] == ' ' && methods.Has(word) {
		return AlienHTTP
	}
	return ""
}

// LooksLikeSMTP reports whether b begins like a command of SMTP. A TLS record's
// header is five octets, so that is all that may be known.
func LooksLikeSMTP(b []byte) bool {
	word, rest := keyword(b)
	for _, v := range verbs[EHLO:] {
		if len(word) >= 4 && len(word) <= len(v.name) && equalFold(word, v.name[:len(word)]) && (len(rest) > 0 || len(word) == len(b)) {
			return true
		}
	}
	return false
}
