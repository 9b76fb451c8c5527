package smtp

import (
	"bytes"
	"fmt"
	"testing"
)

// dictionary are the words that a fuzzer would be long in finding: an octet of
// 0x80 and above in its input stands for one of them.
var dictionary = []string{
	"\r\n", "\n", "\r", " ", "\x00", ".", "\r\n.\r\n", "\n.\n", "EHLO c\r\n", "HELO c\r\n", "MAIL FROM:<>", "RCPT TO:<a@b>", "DATA\r\n", "BDAT ", " LAST\r\n",
	"RSET\r\n", "NOOP\r\n", "QUIT\r\n", "AUTH PLAIN", "AUTH LOGIN\r\n", "STARTTLS", "XCLIENT ADDR=::1", "XFORWARD NAME=x", "X-ANONYMOUSTLS", "XEXCH50", "TURN", "ATRN",
	"LHLO", "XPROXYFROM", "X-EXPS", "VRFY", "HELP", "ETRN", "250-", "250 ", "250", "354 go\r\n", "334 \r\n", "421 bye\r\n", "550 no\r\n", "250-AUTH ", "250 AUTH=",
	"PLAIN", "LOGIN", " EXTERNAL", " SCRAM-SHA-256-PLUS", "250-CHUNKING\r\n", "250-STARTTLS\r\n", "250-REQUIRETLS\r\n", "250-SIZE 1\r\n", "PROXY TCP4 ",
	"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00", "4294967296", "2147483647", "\t", "-", "\x0b", "x",
}

func spell(in []byte) []byte {
	var b []byte
	for _, c := range in {
		if c < 0x80 {
			b = append(b, c)
		} else {
			b = append(b, dictionary[int(c-0x80)%len(dictionary)]...)
		}
	}
	return b
}

// seeds adds every pair of neighbours in the dictionary and a few whole dialogues.
func seeds(f *testing.F, more ...string) {
	for i := range dictionary {
		f.Add([]byte{0x80 + byte(i), 0x80 + byte((i+1)%len(dictionary)), 0x80}, uint(i), uint(2*i))
	}
	for _, s := range more {
		f.Add([]byte(s), uint(len(s)/2), uint(3))
	}
}

// two puts two cuts in order, within b.
func two(b []byte, x, y uint) (int, int) {
	size := uint(len(b)) + 1
	x, y = x%size, y%size
	return int(min(x, y)), int(max(x, y))
}

func FuzzNext(f *testing.F) {
	seeds(f, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "RSET\r\nxclient a\nEHLO c\r\nAUTH PLAIN\r\n", " \tXPROXYTO\nBDAT 5 LAST\r\nhello")
	rules := nextRules()
	f.Fuzz(func(t *testing.T, in []byte, x, y uint) {
		b := spell(in)
		if len(b) >= MaxLine {
			return // TestLineLength
		}
		x1, x2 := two(b, x, y)
		for _, r := range rules {
			checkNext(t, r, b)
			whole, wholeBad := takeAll(r, b)
			if got, bad := takeAll(r, b, x1, x2); bad != wholeBad || fmt.Sprint(got) != fmt.Sprint(whole) {
				t.Fatalf("%q cut at %d, %d:\n got %q %v\nwhole %q %v", b, x1, x2, got, bad, whole, wholeBad)
			}
		}
		AlienIn(b)
		LooksLikeSMTP(b)
	})
}

func FuzzReplies(f *testing.F) {
	seeds(f, "250-a\r\n250 b\r\n354 go\r\n", "220 hi\n500", "250-a\r\n251 b\r\n")
	f.Fuzz(func(t *testing.T, in []byte, x, y uint) {
		b := spell(in)
		if len(b) >= MaxReplyLine {
			return // TestRepliesBounds
		}
		x1, x2 := two(b, x, y)
		want, wantBad := slowReplies(b)
		if got, bad := readReplies(b, x1, x2); bad != wantBad || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q cut at %d, %d: %v %v, want %v %v", b, x1, x2, got, bad, want, wantBad)
		}
	})
}

// FuzzEHLO: whatever a backend announces, the edited reply is a whole reply
// again, has no hidden word in it, and stays within its room.
func FuzzEHLO(f *testing.F) {
	seeds(f, "250-m\r\n250-AUTH PLAIN EXTERNAL\r\n250 CHUNKING\r\n", "250-\r\n250-STARTTLS\n250\r\n", "250 x\r\n")
	rules := ehloRules()
	f.Fuzz(func(t *testing.T, in []byte, x, _ uint) {
		b := spell(in)
		n := wholeReply(b)
		if n == 0 {
			return
		}
		r := rules[x%uint(len(rules))]
		edited, chunking := editEHLO(t, r, string(b[:n]))
		if wholeReply([]byte(edited)) != len(edited) {
			t.Fatalf("%q is edited to %q, which is no reply", b[:n], edited)
		}
		offered, told := 0, false
		for i, line := range bytes.SplitAfter([]byte(edited), []byte("\n")) {
			if i == 0 || len(line) < 4 {
				continue
			}
			word, rest := keyword(line[4:])
			switch {
			case equalFold(word, "STARTTLS"):
				offered++
			case alwaysHidden.Has(word), r.Hide.Has(word):
				t.Fatalf("%q leaks %q", b[:n], word)
			case equalFold(word, "CHUNKING"):
				told = true
			case equalFold(word, "AUTH"):
				upper := bytes.ToUpper(rest)
				if r.Clear || bytes.HasSuffix(bytes.TrimSpace(upper), []byte("-PLUS")) {
					t.Fatalf("%q leaks %q", b[:n], line)
				}
			}
		}
		if (offered == 1) != r.Offer || offered > 1 || told != chunking {
			t.Fatalf("%q is edited to %q: STARTTLS %d times, chunking %v", b[:n], edited, offered, chunking)
		}
	})
}

// wholeReply returns the length of the 250 reply at the front of b, or 0.
func wholeReply(b []byte) int {
	var r Replies
	for n := 0; ; {
		k, last, err := r.Line(b[n:])
		if err != nil || k == 0 || r.Code != 250 {
			return 0
		}
		if n += k; last {
			return n
		}
	}
}
