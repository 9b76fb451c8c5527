package backend

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

const all = TLVSSL | TLVALPN | TLVAuthority | TLVCN | TLVUniqueID

// tlsState is a connection's with a server name, and with a client certificate
// for cn that was verified unless cn is "".
func tlsState(name, cn string) *tls.ConnectionState {
	s := &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, ServerName: name, NegotiatedProtocol: "smtp"}
	if cn != "" {
		s.VerifiedChains = [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: cn}}}}
	}
	return s
}

func facts(client, local string) Facts {
	f := Facts{ID: "0123456789abcdef"}
	if client != "" {
		f.Client = netip.MustParseAddrPort(client)
	}
	if local != "" {
		f.Local = netip.MustParseAddrPort(local)
	}
	return f
}

// read parses a header with the library that backends written in Go use, and
// sees that it is all that there is.
func read(t *testing.T, header []byte) *proxyproto.Header {
	t.Helper()
	r := bufio.NewReaderSize(bytes.NewReader(header), 64<<10)
	h, err := proxyproto.Read(r)
	if err != nil {
		t.Fatalf("%q: %v", header, err)
	}
	if r.Buffered() > 0 {
		t.Fatalf("%q: %d octets behind the header", header, r.Buffered())
	}
	return h
}

// The client's true address, both ends in one family, ::ffff:a.b.c.d as IPv4,
// and never UNKNOWN or LOCAL: a backend gives those its own trust.
func TestHeaderAddresses(t *testing.T) {
	for _, c := range []struct{ client, local, v1 string }{
		{"203.0.113.7:5000", "198.51.100.1:465", "PROXY TCP4 203.0.113.7 198.51.100.1 5000 465\r\n"},
		{"[2001:db8::7]:5000", "[2001:db8::1]:465", "PROXY TCP6 2001:db8::7 2001:db8::1 5000 465\r\n"},
		{"[::ffff:203.0.113.7]:5000", "[::ffff:198.51.100.1]:465", "PROXY TCP4 203.0.113.7 198.51.100.1 5000 465\r\n"},
		{"[::ffff:203.0.113.7]:5000", "198.51.100.1:465", "PROXY TCP4 203.0.113.7 198.51.100.1 5000 465\r\n"},
		{"[fe80::7%eth0]:5000", "[fe80::1%eth0]:465", "PROXY TCP6 fe80::7 fe80::1 5000 465\r\n"},
		{"203.0.113.7:5000", "[2001:db8::1]:465", "PROXY TCP4 203.0.113.7 0.0.0.0 5000 465\r\n"},
		{"[2001:db8::7]:5000", "198.51.100.1:465", "PROXY TCP6 2001:db8::7 :: 5000 465\r\n"},
		{"203.0.113.7:5000", "", "PROXY TCP4 203.0.113.7 0.0.0.0 5000 0\r\n"}, // we serve a unix socket
		{"[2001:db8::7]:5000", "", "PROXY TCP6 2001:db8::7 :: 5000 0\r\n"},
	} {
		f := facts(c.client, c.local)
		v1, _, err := (&Backend{Proxy: V1, TLVs: all}).Header(f)
		if err != nil || string(v1) != c.v1 {
			t.Errorf("v1 of %s to %s: %q %v, want %q", c.client, c.local, v1, err, c.v1)
		}
		v2, _, err := (&Backend{Proxy: V2, TLVs: all}).Header(f)
		if err != nil {
			t.Fatal(err)
		}
		want, got := read(t, v1), read(t, v2)
		if got.Version != 2 || got.Command != proxyproto.PROXY || got.SourceAddr.String() != want.SourceAddr.String() ||
			got.DestinationAddr.String() != want.DestinationAddr.String() || got.TransportProtocol != want.TransportProtocol {
			t.Errorf("v2 of %s to %s: %+v", c.client, c.local, got)
		}
	}
}

// Without an address there is nothing true to say, so nothing is said at all.
func TestHeaderWithoutAddress(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		if header, _, err := (&Backend{Proxy: v}).Header(Facts{}); err == nil {
			t.Errorf("%s: %q", v, header)
		}
	}
	if header, _, err := (&Backend{Proxy: Off}).Header(Facts{}); header != nil || err != nil {
		t.Errorf("off: %q %v", header, err)
	}
}

// tlvsOf sums a v2 header's facts up.
func tlvsOf(t *testing.T, h *proxyproto.Header) (set TLV, values map[string]string) {
	t.Helper()
	tlvs, err := h.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	values = map[string]string{}
	for _, tlv := range tlvs {
		switch tlv.Type {
		case proxyproto.PP2_TYPE_ALPN:
			set |= TLVALPN
			values["alpn"] = string(tlv.Value)
		case proxyproto.PP2_TYPE_AUTHORITY:
			set |= TLVAuthority
			values["authority"] = string(tlv.Value)
		case proxyproto.PP2_TYPE_UNIQUE_ID:
			set |= TLVUniqueID
			values["id"] = string(tlv.Value)
		case proxyproto.PP2_TYPE_SSL:
			set |= TLVSSL
			ssl, err := tlvparse.SSL(tlv)
			if err != nil {
				t.Fatal(err)
			}
			values["version"], _ = ssl.SSLVersion()
			values["cipher"], _ = ssl.SSLCipher()
			if ssl.Verified() {
				values["verified"] = "yes"
			}
			if cn, ok := ssl.ClientCN(); ok {
				set |= TLVCN
				values["cn"] = cn
			}
		default:
			t.Errorf("TLV of type %#x", tlv.Type)
		}
	}
	return set, values
}

func TestHeaderFacts(t *testing.T) {
	f := facts("203.0.113.7:5000", "198.51.100.1:465")
	for _, c := range []struct {
		send  TLV
		state *tls.ConnectionState
		set   TLV
	}{
		{all, nil, TLVUniqueID}, // the SSL TLV only if TLS is really up
		{TLVSSL | TLVCN, nil, 0},
		{all, tlsState("mail.example.org", ""), all &^ TLVCN},
		{all, tlsState("mail.example.org", "printer-7"), all},
		{TLVSSL, tlsState("mail.example.org", "printer-7"), TLVSSL | TLVCN},
		{TLVCN, tlsState("mail.example.org", "printer-7"), 0},
		{TLVALPN | TLVAuthority, tlsState("", "printer-7"), TLVALPN},
		{all, tlsState("mail.example.org", "B\xfcro"), all &^ TLVCN}, // verified, but not UTF-8
		{0, tlsState("mail.example.org", "printer-7"), 0},
	} {
		f.TLS = c.state
		header, dropped, err := (&Backend{Proxy: V2, TLVs: c.send}).Header(f)
		if err != nil || dropped != 0 {
			t.Fatal(err, dropped)
		}
		set, values := tlvsOf(t, read(t, header))
		if set != c.set {
			t.Errorf("asked for %b, TLS %v: %b, want %b", c.send, c.state != nil, set, c.set)
		}
		if set&TLVSSL != 0 && (values["version"] != "TLSv1.3" || values["cipher"] != "TLS_AES_128_GCM_SHA256") {
			t.Errorf("%v", values)
		}
		if (values["verified"] == "yes") != (c.state != nil && len(c.state.VerifiedChains) > 0 && set&TLVSSL != 0) || set&TLVUniqueID != 0 && values["id"] != f.ID {
			t.Errorf("%v", values)
		}
	}
}

func TestServerName(t *testing.T) {
	for name, want := range map[string]string{
		"mail.example.org": "mail.example.org", "mail.example.org.": "mail.example.org", "": "",
		"192.0.2.1": "", "2001:db8::1": "", "[2001:db8::1]": "", "fe80::1%eth0": "", "a\r\nb": "", "m\xfcller.example": "", "a b": "", "1.example": "1.example",
	} {
		if got := ServerName(&tls.ConnectionState{ServerName: name}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// Exim takes 232 octets. What does not fit is left out, least useful first.
func TestHeaderCap(t *testing.T) {
	order := []TLV{TLVUniqueID, TLVCN, TLVAuthority, TLVALPN, TLVSSL}
	b := &Backend{Proxy: V2, TLVs: all}
	f := facts("[2001:db8::7]:5000", "[2001:db8::1]:465")
	for _, cn := range []string{"", "c", strings.Repeat("c", 20), strings.Repeat("c", 64), strings.Repeat("c", 300), strings.Repeat("c", 70000)} {
		for _, name := range []string{"", "s", strings.Repeat("s", 64), strings.Repeat("s", 130), strings.Repeat("s", 160), strings.Repeat("s", 253), strings.Repeat("s", 1<<16), strings.Repeat("s", 1<<20)} {
			for _, proto := range []string{"smtp", strings.Repeat("p", 255)} {
				f.TLS = tlsState(name, cn)
				f.TLS.NegotiatedProtocol = proto
				present := all
				if cn == "" {
					present &^= TLVCN
				}
				if name == "" {
					present &^= TLVAuthority
				}
				header, dropped, err := b.Header(f)
				if err != nil || len(header) > MaxHeader {
					t.Fatalf("cn of %d, name of %d: %d octets, %v", len(cn), len(name), len(header), err)
				}
				set, _ := tlvsOf(t, read(t, header))
				if set|dropped&present != present || set&dropped != 0 {
					t.Errorf("cn of %d, name of %d: sent %b, left out %b of %b", len(cn), len(name), set, dropped, present)
				}
				// What is left out comes before all that is sent, in the order.
				sent := false
				for _, tlv := range order {
					if present&tlv == 0 {
						continue
					}
					if set&tlv != 0 {
						sent = true
					} else if sent {
						t.Errorf("cn of %d, name of %d: sent %b: out of order", len(cn), len(name), set)
					}
				}
			}
		}
	}
}

// All lengths around the cap: the header is as full as it can be.
func TestHeaderIsFilledToTheCap(t *testing.T) {
	b := &Backend{Proxy: V2, TLVs: TLVSSL | TLVAuthority | TLVUniqueID}
	f := facts("[2001:db8::7]:5000", "[2001:db8::1]:465")
	full, last := 0, 0
	for n := 1; n < 253; n++ {
		f.TLS = tlsState(strings.Repeat("s", n), "")
		header, dropped, err := b.Header(f)
		if err != nil || len(header) > MaxHeader {
			t.Fatal(len(header), err)
		}
		if dropped == 0 {
			full, last = n, len(header)
		}
		read(t, header)
	}
	if last != MaxHeader {
		t.Errorf("with a name of %d octets the header has %d and something was left out of the next", full, last)
	}
}

func TestCount(t *testing.T) {
	if n := (TLVSSL | TLVCN | TLVUniqueID).Count(); n != 3 || TLV(0).Count() != 0 || all.Count() != 5 {
		t.Error(n)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{203, 0, 113, 7}, []byte{198, 51, 100, 1}, "mail.example.org", "printer-7", "id", uint16(465), byte(31))
	f.Add(bytes.Repeat([]byte{0xfe}, 16), []byte{}, "2001:db8::1", strings.Repeat("c", 300), "", uint16(0), byte(9))
	f.Add(append(make([]byte, 10), 0xff, 0xff, 1, 2, 3, 4), bytes.Repeat([]byte{1}, 16), "\r\nPROXY", "\x00", "\r\n", uint16(1), byte(1))
	f.Fuzz(func(t *testing.T, client, local []byte, name, cn, id string, port uint16, send byte) {
		from, ok := netip.AddrFromSlice(client)
		if !ok {
			return
		}
		to, _ := netip.AddrFromSlice(local)
		fact := Facts{Client: netip.AddrPortFrom(from, port), Local: netip.AddrPortFrom(to, port), ID: id, TLS: tlsState(name, cn)}
		for _, v := range []Version{V1, V2} {
			header, _, err := (&Backend{Proxy: v, TLVs: TLV(send) & all}).Header(fact)
			if err != nil || len(header) > MaxHeader {
				t.Fatal(len(header), err)
			}
			h := read(t, header)
			want := netip.AddrPortFrom(from.Unmap(), port).String()
			if h.SourceAddr.String() != want || !h.Command.IsProxy() {
				t.Fatalf("%s %q: %v, want %s", v, header, h.SourceAddr, want)
			}
			if v == V2 {
				tlvsOf(t, h)
			}
		}
	})
}
