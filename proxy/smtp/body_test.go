package smtp

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// slowBody is the definition of a message's end, written without regard to
// speed or to pieces: the first "." that stands alone between two line ends.
func slowBody(b []byte) (n int, found Found) {
	for i, c := range b {
		if c != '.' || i > 0 && !isEOL(b[i-1]) || i+1 == len(b) || !isEOL(b[i+1]) {
			continue
		}
		good := i == 0 || i > 1 && b[i-2] == '\r' && b[i-1] == '\n'
		switch {
		case good && b[i+1] == '\r' && i+2 == len(b):
			return i + 1, Text
		case good && b[i+1] == '\r' && b[i+2] == '\n':
			return i + 3, End
		}
		return i + 1, Smuggled
	}
	return len(b), Text
}

// scanPieces gives b to one Body in the pieces that cuts make of it, as a
// session would: what a scan leaves stays in front of what comes next.
func scanPieces(t *testing.T, b []byte, cuts ...int) (n int, found Found) {
	t.Helper()
	var body Body
	for _, cut := range append(cuts, len(b)) {
		if cut = min(cut, len(b)); cut < n {
			continue
		}
		k, found := body.Scan(b[n:cut])
		n += k
		if found != Text {
			return n, found
		}
		if cut-n > 1 {
			t.Fatalf("%q cut at %v: %d octets kept back", b, cuts, cut-n)
		}
	}
	return n, Text
}

// everyString calls f with every string of up to max octets of alphabet.
func everyString(alphabet string, max int, f func(b []byte)) {
	b := make([]byte, 0, max)
	var grow func()
	grow = func() {
		f(b)
		if len(b) == max {
			return
		}
		for i := range len(alphabet) {
			b = append(b, alphabet[i])
			grow()
			b = b[:len(b)-1]
		}
	}
	grow()
}

func TestBodyEveryStringCutEverywhere(t *testing.T) {
	longest := 9
	if raceEnabled {
		longest = 8
	}
	everyString("\r\n.a", longest, func(b []byte) {
		n, found := slowBody(b)
		check := func(cuts ...int) {
			if gotN, got := scanPieces(t, b, cuts...); gotN != n || got != found {
				t.Fatalf("%q cut at %v: %d %v, want %d %v", b, cuts, gotN, got, n, found)
			}
		}
		check()
		for cut := 1; cut < len(b); cut++ {
			check(cut)
		}
		if len(b) > 2 && len(b) < 7 {
			each := make([]int, len(b))
			for i := range each {
				each[i] = i + 1
			}
			check(each...)
		}
	})
}

// The fast paths only run in long input: every short string again, behind and
// in front of text that takes each of them.
func TestBodyEveryStringInLongText(t *testing.T) {
	pads := []string{
		strings.Repeat("a", 40), strings.Repeat("..", 40), strings.Repeat("\n", 40),
		strings.Repeat(".a\r\n", 30), strings.Repeat("\r\n..", 20) + "\r\n", strings.Repeat(".", 530),
	}
	longest := 6
	if raceEnabled {
		longest = 5
	}
	everyString("\r\n.a", longest, func(middle []byte) {
		for _, pad := range pads {
			for _, behind := range []string{"", "bbbbbbbbbbbbbbbbb"} {
				b := []byte("x" + pad + string(middle) + behind)
				n, found := slowBody(b)
				if gotN, got := scanPieces(t, b); gotN != n || got != found {
					t.Fatalf("%q: %d %v, want %d %v", b, gotN, got, n, found)
				}
				if gotN, got := scanPieces(t, b, len(pad)+3); gotN != n || got != found {
					t.Fatalf("%q cut at %d: %d %v, want %d %v", b, len(pad)+3, gotN, got, n, found)
				}
			}
		}
	})
}

func TestBodySmugglingEndings(t *testing.T) {
	ends := []string{"\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\r"}
	for _, before := range ends {
		for _, behind := range ends {
			b := []byte("text" + before + "." + behind + "MAIL FROM:<evil@example.org>\r\n")
			n, found := scanPieces(t, b)
			honest := strings.HasSuffix(before, "\r\n") && strings.HasPrefix(behind, "\r\n")
			if honest && (found != End || n != len("text"+before+".\r\n")) {
				t.Errorf("%q: %d %v, want the end", b, n, found)
			}
			if !honest && (found != Smuggled || n != len("text"+before+".")) {
				t.Errorf("%q: %d %v, want it stopped behind the dot", b, n, found)
			}
		}
	}
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{"", ".\r\n", "a\r\n.\r\n", "a\n.\r\n", "..\r\n\r\n.\r", strings.Repeat(".", 600) + "\r\n.\r\n"} {
		f.Add([]byte(seed), uint(3), uint(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut1, cut2 uint) {
		n, found := slowBody(b)
		size := uint(len(b)) + 1
		cut1, cut2 = cut1%size, cut2%size
		gotN, got := scanPieces(t, b, int(min(cut1, cut2)), int(max(cut1, cut2)))
		if gotN != n || got != found {
			t.Fatalf("%q: %d %v, want %d %v", b, gotN, got, n, found)
		}
	})
}

// bodies are what the scan is measured on: ordinary mail, and the worst that
// we could think of. None has a lone dot, which would end the scan.
func bodies() map[string][]byte {
	line := "Lorem ipsum dolor sit amet, consectetur adipiscing elit. Sed do eiusmod te.\r\n"
	fill := func(s string) []byte { return bytes.Repeat([]byte(s), 64<<10/len(s)) }
	return map[string][]byte{
		"text":    fill(line),
		"base64":  fill(strings.Repeat("QUJD", 19) + "\r\n"),
		"dots":    fill("."),
		"LF":      fill("\n"),
		"CRLF":    fill("\r\n"),
		"stuffed": fill("\r\n.."),
		"LF dots": fill("\n.."),
		"sparse":  fill(".aaaaaaa"),
		"pairs":   fill(".a"),
	}
}

func BenchmarkBody(b *testing.B) {
	for name, body := range bodies() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				s := Body{at: inText}
				if n, found := s.Scan(body); n != len(body) || found != Text {
					b.Fatal(n, found)
				}
			}
		})
	}
}

// A sender must not be able to make us work ten times as hard by what it
// writes. The bound is in the code's shape, so the test may be coarse; the best
// of many short runs is what a busy machine disturbs least.
func TestBodyHostileNotTenTimesSlower(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector changes what costs time; the ratio is measured without it")
		return
	}
	all, cost := bodies(), map[string]time.Duration{}
	for range 200 {
		for name, body := range all {
			start := time.Now()
			s := Body{at: inText}
			s.Scan(body)
			if spent := time.Since(start); cost[name] == 0 || spent < cost[name] {
				cost[name] = spent
			}
		}
	}
	for name, spent := range cost {
		if spent > 10*cost["text"] {
			t.Errorf("%s: %v for 64 KiB, ordinary text %v", name, spent, cost["text"])
		}
	}
	t.Logf("for 64 KiB: %v", cost)
}
