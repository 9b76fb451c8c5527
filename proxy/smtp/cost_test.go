package smtp

import (
	"bytes"
	"strings"
	"testing"
)

// Each of these runs for every turn of every session.
var hot = []struct {
	name string
	in   string
	run  func(b []byte)
}{
	{"Line", "NOOP\r\n", func(b []byte) { Line(b) }},
	{"Parse", "x-anonymoustls and more\r\n", func(b []byte) { Parse(b) }},
	{"Parse other", "SOMETHING-LONGER-THAN-ANY-VERB\r\n", func(b []byte) { Parse(b) }},
	{"Chunk", "BDAT 1000000 LAST\r\n", func(b []byte) { c, _ := Parse(b); c.Chunk(b) }},
	{"Next", "MAIL FROM:<a@b> SIZE=1000\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n", func(b []byte) { hotRules.Next(b) }},
	{"Next ours", "xproxyfrom x\r\n", func(b []byte) { hotRules.Next(b) }},
	{"Next bad", "NOOP\r\r\n", func(b []byte) { hotRules.Next(b) }},
	{"Replies", "250-mail.example.org at your service\r\n", func(b []byte) { var r Replies; r.Line(b) }},
	{"Replies bad", "* BAD\r\n", func(b []byte) { var r Replies; r.Line(b) }},
	{"EHLO", hotEHLO, func(b []byte) { hotRules.EHLO(b) }},
	{"EHLO with an offer", hotEHLO, func(b []byte) { (&Rules{Offer: true, Clear: true}).EHLO(b) }},
	{"AlienIn", "EHLO client.example.org\r\n", func(b []byte) { AlienIn(b) }},
	{"AlienIn HTTP", "OPTIONS * HTTP/1.1\r\n", func(b []byte) { AlienIn(b) }},
	{"LooksLikeSMTP", "EHLO ", func(b []byte) { LooksLikeSMTP(b) }},
	{"Body", strings.Repeat("text.\r\n..\r\n", 1000) + ".\r\n", func(b []byte) { var s Body; s.Scan(b) }},
}

var hotRules = &Rules{Hide: Keywords{"X-EXPS", "XPROXY*"}}

const hotEHLO = "250-mail.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-ETRN\r\n250-STARTTLS\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256-PLUS\r\n" +
	"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"

// EHLO edits in place, so each run gets its octets anew.
func fresh(store []byte, in string) []byte { return append(store[:0], in...) }

func TestNoAllocation(t *testing.T) {
	store := make([]byte, 64<<10)
	for _, h := range hot {
		if n := testing.AllocsPerRun(100, func() { h.run(fresh(store, h.in)) }); n != 0 {
			t.Errorf("%s: %v allocations", h.name, n)
		}
	}
}

func BenchmarkHot(b *testing.B) {
	store := make([]byte, 64<<10)
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			b.SetBytes(int64(len(h.in)))
			b.ReportAllocs()
			for b.Loop() {
				h.run(fresh(store, h.in))
			}
		})
	}
}

// The worst that a client can send as commands: the shortest there are, and a
// line that comes octet by octet.
func BenchmarkNextHostile(b *testing.B) {
	rsets := bytes.Repeat([]byte("RSET\r\n"), 5000)
	b.Run("many short", func(b *testing.B) {
		b.SetBytes(int64(len(rsets)))
		for b.Loop() {
			hotRules.Next(rsets)
		}
	})
	line := bytes.Repeat([]byte("a"), MaxLine-1)
	b.Run("dribbled", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			for n := range line {
				hotRules.Next(line[:n])
			}
		}
	})
}
