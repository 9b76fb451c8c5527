package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
	"smtpseal/proxy/backend"
)

// proxyHeaderTimeout is for the whole of an inbound PROXY header. Its sender is
// a machine of ours and sends it at once.
const proxyHeaderTimeout = 5 * time.Second

// maxProxyHeader bounds in octets an inbound header with its TLVs, and what is
// read with it (CVE-2021-23351, CVE-2021-23409).
const maxProxyHeader = 4 << 10

// admit finds out who the client is, and whether there is room for it.
func (s *session) admit() error {
	s.reach(PhaseAccept)
	s.rec.Client, s.local = addrPort(s.client.RemoteAddr()), addrPort(s.client.LocalAddr())
	if s.refused {
		return s.refuse(errMaxSessions)
	}
	if s.trusted() {
		if err := s.believe(); err != nil {
			return err
		}
	}
	if !s.rec.Client.IsValid() && s.listener.Backend.Proxy != backend.Off {
		return s.addressless()
	}
	if !s.server.enter(s, s.rec.Client.Addr()) {
		return s.refuse(errMaxPerClient)
	}
	return nil
}

func (s *session) refuse(err error) error {
	s.setDeadline(time.Now().Add(lingerTime))
	return &end{outcome: Refused, say: overLimit, err: err}
}

// addressless ends a session whose backend must be told a client's address where
// there is none: LOCAL in its place would give the client our own trust.
func (s *session) addressless() error {
	if s.listener.AcceptUnix {
		return &end{outcome: Violation, violation: badProxyHeader, say: unavailable, err: errLocalPeer}
	}
	return &end{outcome: Violation, violation: noClientAddress, say: unavailable, err: errNoAddress}
}

// trusted reports whether the peer speaks for clients: a header from anybody
// else is junk.
func (s *session) trusted() bool {
	if !s.rec.Client.IsValid() {
		return s.listener.AcceptUnix
	}
	for _, network := range s.listener.AcceptProxy {
		if network.Contains(s.rec.Client.Addr()) {
			return true
		}
	}
	return false
}

// believe reads the PROXY header that a trusted peer must send. LOCAL, and
// UNKNOWN in a v1 header, say that the peer speaks for itself.
func (s *session) believe() error {
	s.setDeadline(time.Now().Add(proxyHeaderTimeout))
	reader := bufio.NewReaderSize(io.LimitReader(s.client.Conn, maxProxyHeader), maxProxyHeader)
	header, err := proxyproto.Read(reader)
	if err != nil {
		return &end{outcome: Violation, violation: badProxyHeader,
			err: fmt.Errorf("PROXY header, which accept_proxy demands of this peer: %w", err)}
	}
	behind, _ := reader.Peek(reader.Buffered())
	s.in.added(copy(s.in.room(), behind))
	s.in.giveBack()
	if header.Command.IsLocal() {
		return nil
	}
	client, local := addrPort(header.SourceAddr), addrPort(header.DestinationAddr)
	if !client.IsValid() {
		return &end{outcome: Violation, violation: badProxyHeader, err: errors.New("PROXY header without an IP address")}
	}
	s.rec.Client, s.local = client, local
	return nil
}

// addrPort returns the IP address and port of a, which is not valid for a unix
// socket's.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
