package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// record makes the octets of a TLS record; nothing here looks into it.
func record(fill byte, size int) []byte {
	return append([]byte{23, 3, 3, byte(size >> 8), byte(size)}, bytes.Repeat([]byte{fill}, size)...)
}

// crypto/tls asks for a few octets first and for much later; whatever it asks
// for, it must get all octets in order and none beyond the end of a record.
func TestSealedReadEndsWithARecord(t *testing.T) {
	var stream []byte
	ends := map[int]bool{}
	for i, size := range []int{1700, 1, 0, 300, 5, 900} {
		stream = append(stream, record(byte(i), size)...)
		ends[len(stream)] = true
	}
	for _, ask := range []int{1, 3, 5, 7, 512, 528, 16400, 1 << 16} {
		for _, piece := range []int{4, 1000, len(stream)} {
			var s sealed
			var got []byte
			p := make([]byte, ask)
			for at := 0; at < len(stream); at += piece {
				in := stream[at:min(at+piece, len(stream))]
				s.cipher.added(copy(s.cipher.room(), in))
				for {
					n, err := s.Read(p)
					if errors.Is(err, errDry) {
						break
					}
					for end := len(got) + 1; end < len(got)+n; end++ {
						if ends[end] {
							t.Fatalf("asked for %d in pieces of %d: octets %d to %d cross the end at %d", ask, piece, len(got), len(got)+n, end)
						}
					}
					got = append(got, p[:n]...)
				}
			}
			if !bytes.Equal(got, stream) {
				t.Fatalf("asked for %d in pieces of %d: the octets are not those that came", ask, piece)
			}
		}
	}
}

// sealedPair is a client and our side of its connection, both beyond the
// handshake.
func sealedPair(t testing.TB) (client *tls.Conn, raw *holding, server *sealed) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw = &holding{Conn: socket}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); conn.Close() })
	pair := testPair()
	client = tls.Client(raw, &tls.Config{RootCAs: pair.pool, ServerName: "mail.example.org"})
	server = &sealed{}
	server.init(conn)
	server.SetDeadline(time.Now().Add(patience))
	server.deadline = time.Now().Add(patience)
	server.tls = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair.cert}})
	done := make(chan error)
	go func() { done <- client.Handshake() }()
	if err := server.shakeHands(newTurnstile(1)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client, raw, server
}

// A close_notify in the same segment as the last octets, with the connection
// left open (CVE-2026-45185 is what an MTA made of the next clear octet): the
// end must be seen at once, and whatever comes behind it never.
func TestSealedCloseNotifyBehindData(t *testing.T) {
	for _, behind := range []string{"", "MAIL FROM:<evil@example.org>\r\n", string(record(0, 40))} {
		client, raw, server := sealedPair(t)
		var b buffer
		client.Write([]byte("first"))
		for len(b.bytes()) < 5 {
			if err := server.fill(&b); err != nil {
				t.Fatal(err)
			}
		}
		b.drop()
		raw.hold = true
		client.Write([]byte("last"))
		client.CloseWrite()
		raw.SetDeadline(time.Time{})                // which CloseWrite has set
		raw.Conn.Write(append(raw.held, behind...)) // one segment
		var got []byte
		var err error
		for ; err == nil; err = server.fill(&b) {
			got = append(got, b.bytes()...)
			b.drop()
		}
		if string(got) != "last" || err != io.EOF {
			t.Errorf("%q behind the end: got %q, %v; want the announced end", behind, got, err)
		}
	}
}

// A holding connection keeps back what is written while hold is set.
type holding struct {
	net.Conn
	hold bool
	held []byte
}

func (h *holding) Write(b []byte) (int, error) {
	if h.hold {
		h.held = append(h.held, b...)
		return len(b), nil
	}
	return h.Conn.Write(b)
}
