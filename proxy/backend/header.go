package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// MaxHeader is the longest header in octets that is written. Exim takes 232
// and calls more an attack; Postfix takes 536.
const MaxHeader = 232

// A Version of the PROXY protocol, or Off.
type Version uint8

// Off writes no header: the backend then takes every client for us.
const (
	Off Version = iota
	V1
	V2
)

func (v Version) String() string { return [...]string{"off", "v1", "v2"}[v] }

// A TLV is a set of facts to send in a v2 header.
type TLV uint8

// The facts, the most useful first: what does not fit is left out from the
// end.
const (
	TLVSSL TLV = 1 << iota
	TLVALPN
	TLVAuthority
	TLVCN // inside the SSL TLV
	TLVUniqueID
)

// Count returns how many facts are in the set.
func (t TLV) Count() int {
	n := 0
	for ; t != 0; t &= t - 1 {
		n++
	}
	return n
}

// Facts are what a backend is told of a session.
type Facts struct {
	Client netip.AddrPort       // who connected, truly
	Local  netip.AddrPort       // whom they connected to
	ID     string               // of the session, as in our log
	TLS    *tls.ConnectionState // nil unless TLS is up
}

var errNoAddress = errors.New("no client address to put into the PROXY header")

// Header returns the octets that introduce f, nil if the backend wants none,
// and what was left out of it to keep within MaxHeader.
func (b *Backend) Header(f Facts) (header []byte, dropped TLV, err error) {
	if b.Proxy == Off {
		return nil, 0, nil
	}
	h, err := addresses(b.Proxy, f)
	if err != nil {
		return nil, 0, err
	}
	if b.Proxy == V1 {
		header, err = h.Format()
		return header, 0, err
	}
	send := b.TLVs
	if send&TLVSSL != 0 {
		send |= TLVCN // the SSL TLV is where a verified name belongs
	}
	for {
		if header, err = format(h, send, f); err == nil && len(header) <= MaxHeader || send == 0 {
			return header, dropped, err
		}
		least := TLVUniqueID
		for send&least == 0 {
			least >>= 1
		}
		if send &^= least; least != TLVCN || named(f.TLS) {
			dropped |= least
		}
	}
}

// format fails on a value that no header can hold, such as a server name of
// 64 KiB.
func format(h *proxyproto.Header, send TLV, f Facts) ([]byte, error) {
	list, err := tlvs(send, f)
	if err == nil {
		err = h.SetTLVs(list)
	}
	if err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	return h.Format()
}

func named(state *tls.ConnectionState) bool {
	if state == nil {
		return false
	}
	cn, ok := Verified(state)
	return ok && cn != ""
}

// addresses fills in both ends, in one family: rules of a backend that match
// 203.0.113.7 do not match ::ffff:203.0.113.7.
func addresses(v Version, f Facts) (*proxyproto.Header, error) {
	client, local := f.Client.Addr().Unmap().WithZone(""), f.Local.Addr().Unmap().WithZone("")
	if !client.IsValid() {
		return nil, errNoAddress
	}
	family := proxyproto.TCPv6
	if client.Is4() {
		family = proxyproto.TCPv4
	}
	if local.Is4() != client.Is4() || !local.IsValid() { // a header from a proxy in front may mix them
		local = netip.IPv6Unspecified()
		if client.Is4() {
			local = netip.IPv4Unspecified()
		}
	}
	return &proxyproto.Header{
		Version:           byte(v),
		Command:           proxyproto.PROXY, // never LOCAL: that has our own trust
		TransportProtocol: family,
		SourceAddr:        net.TCPAddrFromAddrPort(netip.AddrPortFrom(client, f.Client.Port())),
		DestinationAddr:   net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, f.Local.Port())),
	}, nil
}

func tlvs(send TLV, f Facts) (out []proxyproto.TLV, err error) {
	add := func(t proxyproto.PP2Type, value string) {
		if value != "" {
			out = append(out, proxyproto.TLV{Type: t, Value: []byte(value)})
		}
	}
	if f.TLS != nil {
		if send&TLVALPN != 0 {
			add(proxyproto.PP2_TYPE_ALPN, f.TLS.NegotiatedProtocol)
		}
		if send&TLVAuthority != 0 {
			add(proxyproto.PP2_TYPE_AUTHORITY, ServerName(f.TLS))
		}
		if send&TLVSSL != 0 {
			ssl, err := sslTLV(f.TLS, send&TLVCN != 0)
			if err != nil {
				return nil, err
			}
			out = append(out, ssl)
		}
	}
	if send&TLVUniqueID != 0 {
		add(proxyproto.PP2_TYPE_UNIQUE_ID, f.ID)
	}
	return out, nil
}

// ServerName returns the name that a client asked for, or "" if it asked for
// none or, as msmtp and mutt do, for an IP address. What is no host name is not
// passed on either: a backend may write it into its log as it is.
func ServerName(state *tls.ConnectionState) string {
	name := strings.TrimSuffix(state.ServerName, ".")
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' {
			return ""
		}
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ""
	}
	return name
}

// sslTLV says which TLS is up. Its verify field is zero only for a client
// certificate that was verified.
func sslTLV(state *tls.ConnectionState, withCN bool) (proxyproto.TLV, error) {
	ssl := tlvparse.PP2SSL{Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1}
	add := func(t proxyproto.PP2Type, value string) {
		ssl.TLV = append(ssl.TLV, proxyproto.TLV{Type: t, Value: []byte(value)})
	}
	add(proxyproto.PP2_SUBTYPE_SSL_VERSION, versionName(state.Version))
	add(proxyproto.PP2_SUBTYPE_SSL_CIPHER, tls.CipherSuiteName(state.CipherSuite))
	if cn, ok := Verified(state); ok {
		ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		ssl.Verify = 0
		if withCN && cn != "" {
			add(proxyproto.PP2_SUBTYPE_SSL_CN, cn)
		}
	}
	return ssl.Marshal()
}

// Verified returns the common name of a client certificate that was verified,
// or "" if it is not UTF-8, which the TLV must be (old certificates have others).
func Verified(state *tls.ConnectionState) (cn string, ok bool) {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return "", false
	}
	cn = state.VerifiedChains[0][0].Subject.CommonName
	if !utf8.ValidString(cn) {
		cn = ""
	}
	return cn, true
}

// versionName is OpenSSL's name of a TLS version, which HAProxy sends too.
func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return fmt.Sprintf("0x%04x", v)
}
