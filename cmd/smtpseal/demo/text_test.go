package demo

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// RFC 5321 sections 4.1.1.4 and 4.5.2: only CRLF . CRLF ends a message, and one
// dot of those at the start of a line goes.
func TestReadText(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for wire, want := range map[string]string{
		".\r\n":                               "",
		"one\r\n.\r\n":                        "one\r\n",
		"..\r\n.\r\n":                         ".\r\n",
		"..a\r\n...\r\n.\r\n":                 ".a\r\n..\r\n",
		".a\r\n.\r\n":                         "a\r\n", // as any server does: the first dot goes
		"a\n.\nb\r\n.\r\n":                    "a\n.\nb\r\n",
		"a\n.\r\nb\r\n.\r\n":                  "a\n.\r\nb\r\n",
		"a\r\n.\nb\r\n.\r\n":                  "a\r\n\nb\r\n",
		"a\r.\r\nb\r\n.\r\n":                  "a\r.\r\nb\r\n",
		long + "\r\n.\r\n":                    long + "\r\n",
		long[1:] + "\r\n..\r\n.\r\n":          long[1:] + "\r\n.\r\n", // CR and LF in two pieces
		long[2:] + "\r\n.\r\n":                long[2:] + "\r\n",
		long + "." + "\r\n.\r\n":              long + "." + "\r\n",
		strings.Repeat("..\r\n", 9) + ".\r\n": strings.Repeat(".\r\n", 9),
	} {
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(wire), "byte by byte": iotest.OneByteReader(strings.NewReader(wire)),
		} {
			got, err := readText(bufio.NewReaderSize(r, maxLine))
			if err != nil || string(got) != want {
				t.Errorf("%.40q %s: %.40q, %v; want %.40q", wire, name, got, err, want)
			}
		}
	}
}

func TestReadTextNeverReturnsAPart(t *testing.T) {
	whole := "a\r\n..b\r\n\r\nc\r\n.\r\n"
	for cut := range len(whole) {
		if got, err := readText(bufio.NewReader(strings.NewReader(whole[:cut]))); err == nil {
			t.Errorf("cut at %d: %q", cut, got)
		}
	}
}

// The end of a message that is too large is found, or what follows it would be
// taken for its text; nothing over the bound is kept.
func TestReadTextOfAMessageTooLargeGoesToItsEnd(t *testing.T) {
	line := strings.Repeat("x", 998) + "\r\n"
	wire := strings.Repeat(line, maxMessage/len(line)+1) + ".\r\nQUIT\r\n"
	in := bufio.NewReaderSize(strings.NewReader(wire), maxLine)
	if text, err := readText(in); err != errTooLarge || text != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "QUIT\r\n" {
		t.Errorf("rest %.40q", rest)
	}
}

func FuzzTextSurvivesTheWire(f *testing.F) {
	for _, seed := range []string{"", "a", ".", "..", "a\r\n.", ".\r\n.\r\n", "a\n.\nb", "\r\n\r\n.x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// What a client may send: lines that end in CRLF.
		text = bytes.ReplaceAll(text, []byte("\r"), nil)
		text = append(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), "\r\n"...)
		got, err := readText(bufio.NewReaderSize(bytes.NewReader(stuff(text)), maxLine))
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
	})
}
