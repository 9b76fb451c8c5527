package mta

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"smtpseal/test/talk"
)

const v1Line = "PROXY TCP4 203.0.113.7 198.51.100.1 51234 465\r\n"

// v2Header has one TLV.
func v2Header(t *testing.T) string {
	t.Helper()
	header := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 51234}, &net.TCPAddr{IP: net.ParseIP("198.51.100.1"), Port: 465})
	if err := header.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("mail.example.test")}}); err != nil {
		t.Fatal(err)
	}
	octets, err := header.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(octets)
}

func TestHeaderIsKept(t *testing.T) {
	for name, raw := range map[string]string{"v1": v1Line, "v2": v2Header(t)} {
		t.Run(name, func(t *testing.T) {
			srv := Start(t, Config{Proxy: Either, PeekOnce: true})
			c, _ := dial(t, srv)
			c.Send(raw)
			c.Play(hello)
			got := srv.Connections()[0]
			h := got.Header
			if h == nil || string(h.Raw) != raw || !h.OneRead || h.Segments != 1 || got.Early != 0 {
				t.Fatalf("header %+v, early %d", h, got.Early)
			}
			if source, _, ok := h.TCPAddrs(); !ok || source.String() != "203.0.113.7:51234" {
				t.Errorf("source %v", source)
			}
			if tlvs, err := h.TLVs(); err != nil || name == "v2" && (len(tlvs) != 1 || string(tlvs[0].Value) != "mail.example.test") {
				t.Errorf("TLVs %v, %v", tlvs, err)
			}
			if !strings.HasPrefix(string(got.In()), raw+"HELO") {
				t.Errorf("transcript %q", got.In())
			}
		})
	}
}

func TestUnixSocketTakesHeader(t *testing.T) {
	srv := Start(t, Config{Network: "unix", Proxy: V2})
	c, _ := dial(t, srv)
	c.Send(v2Header(t))
	c.Play(hello)
}

// Two writes are two segments, even when one read returns both.
func TestSplitHeaderIsNoticed(t *testing.T) {
	srv := Start(t, Config{Proxy: V2, Faults: []Fault{{At: Connect, Pause: talk.Quiet}}})
	c, _ := dial(t, srv)
	raw := v2Header(t)
	c.Send(raw[:20])
	c.Send(raw[20:])
	c.Play(hello)
	if h := srv.Connections()[0].Header; h.Segments != 2 {
		t.Errorf("%d segments in %+v", h.Segments, h)
	}
}

func TestPeekOnceRefusesSplitHeader(t *testing.T) {
	for name, raw := range map[string]string{"v1": v1Line, "v2": v2Header(t)} {
		t.Run(name, func(t *testing.T) {
			srv := Start(t, Config{Proxy: Either, PeekOnce: true, BadHeader: Say421})
			c, _ := dial(t, srv)
			c.Send(raw[:18])
			c.Play("< 421 4.3.0\n< END")
			if got := srv.WaitEnd(t, 1); got.Error == nil || !strings.Contains(got.Error.Error(), "first read of 18 octets") {
				t.Errorf("error %v", got.Error)
			}
		})
	}
}

func TestTalkingBeforeTheGreeting(t *testing.T) {
	t.Run("in the header's segment", func(t *testing.T) {
		srv := Start(t, Config{Proxy: V1})
		c, _ := dial(t, srv)
		c.Send(v1Line + "HELO x\r\n")
		c.Play("< 220\n< 250")
		if got := srv.Connections()[0].Early; got != 8 {
			t.Errorf("early %d", got)
		}
	})
	t.Run("in the next", func(t *testing.T) {
		srv := Start(t, Config{Proxy: V1, GreetDelay: talk.Quiet})
		c, _ := dial(t, srv)
		c.Send(v1Line)
		c.Send("HELO x\r\n")
		c.Play("< 220\n< 250")
		if got := srv.Connections()[0]; got.Early != 8 || got.Header.Segments > 2 {
			t.Errorf("early %d, %+v", got.Early, got.Header)
		}
	})
	t.Run("and swallowed", func(t *testing.T) {
		srv := Start(t, Config{Proxy: V1, SwallowBehind: true})
		c, _ := dial(t, srv)
		c.Send(v1Line + "HELO x\r\n")
		c.Play("< 220\n< nothing\n> NOOP\n< 250")
	})
}

func TestWrongProxyVersion(t *testing.T) {
	short := 10 * talk.Quiet
	for _, c := range []struct {
		name   string
		config Config
		sent   string
		script string
	}{
		{"v1 to a plain server", Config{}, v1Line, "< 220\n< 500 5.5.2\n> NOOP\n< 250"},
		{"v2 to a plain server", Config{}, v2Header(t), "< 220\n< 500\n< 500\n< 500\n< 221\n< END"},
		{"v2 to a v1 server", Config{Proxy: V1}, v2Header(t), "< END"},
		{"v1 to a v2 server", Config{Proxy: V2, BadHeader: Say421}, v1Line, "< 421\n< END"},
		{"plain SMTP to a v2 server", Config{Proxy: V2, BadHeader: Say421}, "EHLO x\r\n", "< 421\n< END"},
		{"nothing, silence", Config{Proxy: V2}, "", "< nothing"},
		{"nothing, then closed", Config{Proxy: V2, HeaderTimeout: short}, "", "< nothing\n< FIN"},
		{"nothing, then 421", Config{Proxy: V1, HeaderTimeout: short, BadHeader: Say421}, "", "< nothing\n< 421\n< FIN"},
		{"nothing, then 503 to all but QUIT", Config{Proxy: V2, HeaderTimeout: short, BadHeader: Only503}, "", "< nothing\n< 220\n> EHLO x\n< 503\n> QUIT\n< 221\n< FIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := Start(t, c.config)
			client, _ := dial(t, srv)
			client.Send(c.sent)
			client.Play(c.script)
		})
	}
}

func TestLateHeaderIsTaken(t *testing.T) {
	srv := Start(t, Config{Proxy: Either, HeaderTimeout: time.Minute})
	c, _ := dial(t, srv)
	raw := v2Header(t)
	c.Send(raw[:16])
	c.Play("< nothing")
	c.Send(raw[16:])
	c.Play(hello)
	if h := srv.Connections()[0].Header; h.OneRead || h.Segments != 2 {
		t.Errorf("%+v", h)
	}
}
