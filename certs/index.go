package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
)

// An index finds the certificate for a hello. It never changes once it is
// served; a look-up costs the same however many certificates there are.
type index struct {
	exact    map[string]choice     // by DNS name, in lower case
	wildcard map[string]choice     // by the name without its first label
	addrs    map[netip.Addr]choice // by IP address
	any      choice                // for everybody else
}

// A choice is what fits one name: at most one certificate of each kind of key
// that a client can tell from others, which is the algorithm and of ECDSA the
// curve; the first of the configuration first. So its length has a small bound.
type choice []*tls.Certificate

func newIndex() *index {
	return &index{exact: map[string]choice{}, wildcard: map[string]choice{}, addrs: map[netip.Addr]choice{}}
}

func (x *index) add(c *tls.Certificate) {
	x.any = x.any.with(c)
	for _, name := range dnsNames(c.Leaf) {
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			x.wildcard[rest] = x.wildcard[rest].with(c)
		} else {
			x.exact[name] = x.exact[name].with(c)
		}
	}
	for _, ip := range c.Leaf.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			x.addrs[addr.Unmap()] = x.addrs[addr.Unmap()].with(c)
		}
	}
}

func (c choice) with(cert *tls.Certificate) choice {
	for _, have := range c {
		if have.Leaf.PublicKeyAlgorithm == cert.Leaf.PublicKeyAlgorithm && curve(have) == curve(cert) {
			return c
		}
	}
	return append(c, cert)
}

// curve is nil of all but ECDSA.
func curve(c *tls.Certificate) elliptic.Curve {
	if key, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
		return key.Curve
	}
	return nil
}

// choose returns the certificate for a hello, nil if there is none at all.
func (x *index) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	return x.find(hello.ServerName, hello.Conn).usable(hello)
}

func (x *index) find(name string, conn net.Conn) choice {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if c, ok := x.exact[name]; ok {
		return c
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if c, ok := x.wildcard[rest]; ok {
			return c
		}
	}
	if c := x.findAddr(name, conn); c != nil {
		return c
	}
	return x.any
}

// findAddr serves clients that were told an address in place of a name: RFC
// 6066 section 3 forbids addresses as server names, so most of them send none,
// and the address they dialled is the only hint.
func (x *index) findAddr(name string, conn net.Conn) choice {
	if len(x.addrs) == 0 {
		return nil
	}
	if name != "" {
		addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
		if err != nil {
			return nil
		}
		if c, ok := x.addrs[addr.Unmap().WithZone("")]; ok {
			return c
		}
	}
	if conn == nil {
		return nil
	}
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		return x.addrs[local.AddrPort().Addr().Unmap().WithZone("")]
	}
	return nil
}

// usable returns the first certificate that the client can verify: an old
// client may know RSA only, one of a government P-384 only. If there is none the first is as good as any, and
// the handshake fails with the right alert.
func (c choice) usable(hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(c) == 0 {
		return nil
	}
	if len(c) == 1 {
		return c[0]
	}
	// SupportsCertificate also wants the name to be on the certificate, by
	// rules stricter than ours (a common name alone never counts).
	nameless := *hello
	nameless.ServerName = ""
	for _, cert := range c {
		if nameless.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return c[0]
}
