package demo

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// A Header is what a PROXY v2 header says of the client. What it does not say
// is empty.
type Header struct {
	Family    string // TCPv4 or TCPv6
	Client    string // address and port
	Server    string // the address the client connected to
	TLS       string // the version
	Cipher    string
	Authority string // the name the client asked for
	UniqueID  string // the session in smtpseal's log
	Size      int    // octets of the whole header
}

// readHeader takes the header off the connection, and no octet more. One that
// speaks of smtpseal itself, as its health checks do (LOCAL), is empty.
func readHeader(in *bufio.Reader) (Header, error) {
	raw, err := proxyproto.Read(in)
	if err != nil {
		return Header{}, err
	}
	if raw.Version == 2 && raw.Command.IsLocal() {
		return Header{}, nil
	}
	if raw.Version != 2 || raw.SourceAddr == nil {
		return Header{}, errors.New("no client in the PROXY header")
	}
	h := Header{Family: "TCPv4", Client: raw.SourceAddr.String(), Server: raw.DestinationAddr.String()}
	if raw.TransportProtocol == proxyproto.TCPv6 {
		h.Family = "TCPv6"
	}
	if written, err := raw.Format(); err == nil {
		h.Size = len(written)
	}
	facts, err := raw.TLVs()
	if err != nil {
		return Header{}, err
	}
	for _, fact := range facts {
		h.take(fact)
	}
	return h, nil
}

func (h *Header) take(fact proxyproto.TLV) {
	switch fact.Type {
	case proxyproto.PP2_TYPE_AUTHORITY:
		h.Authority = string(fact.Value)
	case proxyproto.PP2_TYPE_UNIQUE_ID:
		h.UniqueID = string(fact.Value)
	case proxyproto.PP2_TYPE_SSL:
		if ssl, err := tlvparse.SSL(fact); err == nil && ssl.ClientSSL() {
			h.TLS, _ = ssl.SSLVersion()
			h.Cipher, _ = ssl.SSLCipher()
		}
	}
}

// Lines explains the header, one fact a line. What came from a client is
// quoted where it could hold anything.
func (h Header) Lines() []string {
	lines := []string{
		fmt.Sprintf("PROXY v2, %s, %d bytes", h.Family, h.Size),
		"client     " + h.Client,
		"server     " + h.Server,
	}
	if h.TLS != "" {
		lines = append(lines, "TLS        "+h.TLS+", "+h.Cipher)
	}
	if h.Authority != "" {
		lines = append(lines, fmt.Sprintf("authority  %q", h.Authority))
	}
	if h.UniqueID != "" {
		lines = append(lines, fmt.Sprintf("unique id  %q", h.UniqueID))
	}
	return lines
}
