package main

import (
	"hash/crc32"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const sinkGreeting = "220 sink.test ESMTP\r\n"

// startSinkSession serves one end of a pipe and returns the other.
func startSinkSession(t *testing.T, s *sink) net.Conn {
	t.Helper()
	s.bodies = &sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
	client, server := net.Pipe()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	go s.serve(server)
	t.Cleanup(func() { client.Close() })
	return client
}

// want reads exactly text.
func want(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q (%v), want %q", got[:n], err, text)
	}
}

// say writes text in pieces of n octets.
func say(t *testing.T, c net.Conn, text string, n int) {
	t.Helper()
	for len(text) > 0 {
		piece := text[:min(n, len(text))]
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		text = text[len(piece):]
	}
}

func TestSinkFindsTheEndOfABodyHoweverItIsCut(t *testing.T) {
	const text = "Subject: x\r\n\r\n..\r\n\n.\n\r.\r\n..x\r\n.." + bodyEnd
	for n := 1; n <= len(text); n++ {
		c := startSinkSession(t, &sink{})
		want(t, c, sinkGreeting)
		for range 2 { // the second on the same connection
			say(t, c, "DATA\r\n", 100)
			want(t, c, sinkReplies["DATA"])
			say(t, c, text, n)
			want(t, c, string(accepted(int64(len(text)), crc32.Checksum([]byte(text), castagnoli))))
		}
		say(t, c, "QUIT\r\n", 1)
		want(t, c, sinkReplies["QUIT"])
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("after QUIT: %v, want the end of file", err)
		}
	}
}

func TestSinkWantsAWholeProxyHeaderBeforeItGreets(t *testing.T) {
	c := startSinkSession(t, &sink{proxied: true})
	header := string(proxyV2) + "\x21\x11\x00\x0f" + "\x7f\x00\x00\x01\x7f\x00\x00\x01\x00\x01\x00\x02" + "\x04\x00\x00"
	say(t, c, header, 3)
	want(t, c, sinkGreeting)
	say(t, c, "noop\r\n", 100)
	want(t, c, sinkReplies["NOOP"])
}

func TestSinkClosesOnAnotherProxyVersion(t *testing.T) {
	c := startSinkSession(t, &sink{proxied: true})
	say(t, c, "PROXY TCP4 127", 100)
	go io.WriteString(c, ".0.0.1 127.0.0.1 1 2\r\n")
	if got, err := io.ReadAll(c); len(got) > 0 {
		t.Errorf("read %q (%v), want nothing", got, err)
	}
}

func TestBodiesEndOnceAndHoldNoDotAlone(t *testing.T) {
	patterns := map[string]string{"ordinary": string(ordinaryPattern())}
	for _, h := range hostileBodies {
		patterns[h.name] = h.pattern
	}
	for name, pattern := range patterns {
		b := newBody([]byte(pattern), 200<<10)
		var whole strings.Builder
		for _, w := range b.writes {
			whole.Write(w)
		}
		text := whole.String()
		if int64(len(text)) != b.length || len(text) < 120<<10 || len(text) > 201<<10 {
			t.Errorf("%s: %d octets, said to be %d", name, len(text), b.length)
		}
		if strings.Index(text, bodyEnd) != len(text)-len(bodyEnd) {
			t.Errorf("%s: its end is not where it ends", name)
		}
		text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace("\n" + strings.TrimSuffix(text, bodyEnd))
		if strings.Contains(text, "\n.\n") {
			t.Errorf("%s: holds a dot alone on a line", name)
		}
	}
}

func TestMessageOfTenKiBIsOneRecord(t *testing.T) {
	b := newBody(ordinaryPattern(), 10<<10)
	if len(b.writes) != 1 || b.length < 9<<10 || b.length > 11<<10 {
		t.Errorf("%d writes of %d octets in all", len(b.writes), b.length)
	}
}
