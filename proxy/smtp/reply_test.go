package smtp

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// replyLine is RFC 5321 section 4.2 as it stands there, with any text.
var replyLine = regexp.MustCompile(`(?s)^([2-5][0-9][0-9])(|[ -].*)$`)

// slowReplies reads all whole lines of b: "CODE+" for a line that goes on, "CODE"
// for one that ends a reply.
func slowReplies(b []byte) (all []string, bad bool) {
	open := ""
	for {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if !found {
			return all, len(b) >= MaxReplyLine
		}
		m := replyLine.FindStringSubmatch(strings.TrimSuffix(string(line), "\r"))
		if m == nil || open != "" && open != m[1] || len(line)+1 > MaxReplyLine {
			return all, true
		}
		if strings.HasPrefix(m[2], "-") {
			open = m[1]
			all = append(all, m[1]+"+")
		} else {
			open = ""
			all = append(all, m[1])
		}
		b = rest
	}
}

func readReplies(b []byte, cuts ...int) (all []string, bad bool) {
	var r Replies
	from := 0
	for _, cut := range append(cuts, len(b)) {
		for {
			n, last, err := r.Line(b[from:cut])
			if err != nil {
				return all, true
			}
			if n == 0 {
				break
			}
			from += n
			if last {
				all = append(all, fmt.Sprint(r.Code))
			} else {
				all = append(all, fmt.Sprintf("%d+", r.Code))
			}
		}
	}
	return all, false
}

var replyWords = []string{"250", "25", "199", "600", "-", " ", "\r", "\n", "550-x\r\n", "a"}

func TestRepliesEveryWordCutEverywhere(t *testing.T) {
	longest := 6
	if raceEnabled {
		longest = 5
	}
	everyString("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09", longest, func(word []byte) {
		var b []byte
		for _, i := range word {
			b = append(b, replyWords[i]...)
		}
		want, wantBad := slowReplies(b)
		check := func(cuts ...int) {
			if got, bad := readReplies(b, cuts...); bad != wantBad || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q cut at %v: %v %v, want %v %v", b, cuts, got, bad, want, wantBad)
			}
		}
		check()
		if len(word) == longest {
			check(len(b) / 2)
			return
		}
		for cut := range b {
			check(cut)
		}
	})
}

// A broken or malicious backend must not be read without end.
func TestRepliesBounds(t *testing.T) {
	long := strings.Repeat("a", MaxReplyLine)
	for _, c := range []struct {
		text string
		bad  bool
	}{
		{"250 " + long[:MaxReplyLine-6] + "\r\n", false},
		{"250 " + long[:MaxReplyLine-5] + "\r\n", true},
		{"250 " + long[:MaxReplyLine-5], false},
		{"250 " + long[:MaxReplyLine-4], true},
		{strings.Repeat("250-x\r\n", MaxReplyLines-1) + "250 x\r\n", false},
		{strings.Repeat("250-x\r\n", MaxReplyLines) + "250 x\r\n", true},
		{strings.Repeat("250 x\r\n", 3*MaxReplyLines), false},
	} {
		if _, bad := readReplies([]byte(c.text)); bad != c.bad {
			t.Errorf("%.20q… of %d octets: bad %v", c.text, len(c.text), bad)
		}
	}
}
