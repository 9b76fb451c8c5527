package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// slowLine is the definition of a command line, octet by octet: it ends at the
// first LF; before that neither NUL nor a CR that is not its end's may come.
func slowLine(b []byte) (n int, bare, bad bool) {
	for i, c := range b {
		switch {
		case c == 0, i > 0 && b[i-1] == '\r' && c != '\n':
			return 0, false, true
		case c == '\n':
			return i + 1, i == 0 || b[i-1] != '\r', false
		}
	}
	return 0, false, false
}

func TestLineEveryString(t *testing.T) {
	everyString("\r\n\x00a ", 7, func(b []byte) {
		n, bare, bad := slowLine(b)
		gotN, gotBare, err := Line(b)
		if (err != nil) != bad || gotN != n || gotBare != bare {
			t.Fatalf("%q: %d %v %v, want %d %v, bad %v", b, gotN, gotBare, err, n, bare, bad)
		}
	})
}

// RFC 5321 section 4.5.3.1.4: what is too long is so as soon as it is seen.
func TestLineLength(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		err  error
	}{
		{strings.Repeat("a", MaxLine-1), 0, nil},
		{strings.Repeat("a", MaxLine-2) + "\r", 0, nil},
		{strings.Repeat("a", MaxLine-2) + "\r\n", MaxLine, nil},
		{strings.Repeat("a", MaxLine-1) + "\n", MaxLine, nil},
		{strings.Repeat("a", MaxLine), 0, ErrLineTooLong},
		{strings.Repeat("a", MaxLine-1) + "\r", 0, ErrLineTooLong},
		{strings.Repeat("a", MaxLine-1) + "\r\n", 0, ErrLineTooLong},
		{"NOOP\r\n" + strings.Repeat("a", 2*MaxLine), 6, nil},
	} {
		if n, _, err := Line([]byte(c.text)); n != c.n || !errors.Is(err, c.err) {
			t.Errorf("%d octets: %d %v, want %d %v", len(c.text), n, err, c.n, c.err)
		}
	}
}

// commandNames are all verbs that are told apart, as RFCs and vendors write them.
var commandNames = strings.Fields("EHLO HELO MAIL RCPT DATA BDAT RSET NOOP HELP QUIT AUTH STARTTLS VRFY EXPN ETRN " +
	"XCLIENT XFORWARD X-ANONYMOUSTLS XEXCH50 TURN ATRN LHLO")

// slowWord returns the keyword of a line.
func slowWord(line string) string {
	line = strings.TrimLeftFunc(line, func(r rune) bool { return r <= ' ' })
	end := strings.IndexFunc(line, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-", r)
	})
	if end >= 0 {
		line = line[:end]
	}
	return line
}

// slowVerb names the verb of a line that is complete.
func slowVerb(line string) string {
	word := slowWord(line)
	for _, name := range commandNames {
		if strings.EqualFold(name, word) {
			return name
		}
	}
	return ""
}

func TestParseEveryVerb(t *testing.T) {
	for _, name := range commandNames {
		for _, spelt := range []string{name, strings.ToLower(name), name[:1] + strings.ToLower(name[1:])} {
			for _, before := range []string{"", " ", "\t", " \t ", "\x0b", "\x01\x1f "} {
				for _, behind := range []string{"", " arg", "\targ", ":", "=", "\x0b", "\x7f", "\xa0", "_", "-", "X", "1"} {
					line := before + spelt + behind
					c, err := Parse([]byte(line + "\r\nnext"))
					if want := slowVerb(line); err != nil || c.Verb.String() != want || c.Len != len(line)+2 || c.Bare {
						t.Errorf("%q: %q %v, want %q", line, c.Verb, err, want)
					}
					if string(c.Keyword)+string(c.Arg) != strings.TrimLeft(line, " \t\x0b\x01\x1f") {
						t.Errorf("%q: keyword %q, argument %q", line, c.Keyword, c.Arg)
					}
				}
			}
		}
	}
}

func TestParseEveryString(t *testing.T) {
	everyString("\r\nAx- :", 6, func(b []byte) {
		n, bare, bad := slowLine(b)
		c, err := Parse(b)
		if (err != nil) != bad || c.Len != n || c.Bare != bare {
			t.Fatalf("%q: %+v %v", b, c, err)
		}
		if n > 0 && string(c.Keyword)+string(c.Arg) != strings.TrimLeft(strings.TrimRight(string(b[:n]), "\r\n"), " ") {
			t.Fatalf("%q: keyword %q, argument %q", b, c.Keyword, c.Arg)
		}
	})
}

// RFC 3030 section 2. Whoever reads a size differently takes message text for
// commands; CVE-2017-16943 and -16944 are what became of it at Exim.
func TestChunk(t *testing.T) {
	for _, c := range []struct {
		line string
		size int64 // -1: refused
		last bool
	}{
		{"BDAT 0", 0, false}, {"BDAT 0 LAST", 0, true}, {"BDAT 1", 1, false}, {"bdat 86 last", 86, true}, {"Bdat 1000 LaSt", 1000, true},
		{"BDAT 2147483647", 1<<31 - 1, false}, {"BDAT 2147483647 LAST", 1<<31 - 1, true},
		{"BDAT 2147483648", -1, false}, {"BDAT 4294967295", -1, false}, {"BDAT 4294967296", -1, false}, {"BDAT 4294967301", -1, false},
		{"BDAT 9223372036854775807", -1, false}, {"BDAT 18446744073709551616", -1, false}, {"BDAT 18446744073709551621 LAST", -1, false},
		{"BDAT " + strings.Repeat("9", 9000), -1, false},
		{"BDAT", -1, false}, {"BDAT ", -1, false}, {"BDAT  5", -1, false}, {"BDAT\t5", -1, false}, {"BDAT:5", -1, false}, {" BDAT 5", -1, false},
		{"BDAT 05", -1, false}, {"BDAT 00", -1, false}, {"BDAT 010", -1, false}, {"BDAT 0x10", -1, false}, {"BDAT 1e3", -1, false},
		{"BDAT +5", -1, false}, {"BDAT -5", -1, false}, {"BDAT -0", -1, false}, {"BDAT 5.0", -1, false}, {"BDAT 5,0", -1, false}, {"BDAT 5_0", -1, false},
		{"BDAT 5 ", -1, false}, {"BDAT 5\t", -1, false}, {"BDAT 5  LAST", -1, false}, {"BDAT 5\tLAST", -1, false}, {"BDAT 5LAST", -1, false},
		{"BDAT 5 LAST ", -1, false}, {"BDAT 5 LAST x", -1, false}, {"BDAT 5 LASTX", -1, false}, {"BDAT 5 LAS", -1, false}, {"BDAT LAST 5", -1, false},
		{"BDAT 5 6", -1, false}, {"BDAT \xd9\xa5", -1, false}, {"BDAT 5\x0b", -1, false},
	} {
		for _, end := range []string{"\r\n", "\n"} {
			line := []byte(c.line + end)
			cmd, err := Parse(line)
			if err != nil || cmd.Verb != BDAT {
				t.Fatalf("%q: %v %v", line, cmd.Verb, err)
			}
			size, last, ok := cmd.Chunk(line[:cmd.Len])
			if ok != (c.size >= 0) || ok && (size != c.size || last != c.last) {
				t.Errorf("%q: %d %v %v, want %d %v", line, size, last, ok, c.size, c.last)
			}
		}
	}
}

// Of all arguments only those pass that can be written back as they came.
func TestChunkEveryArgument(t *testing.T) {
	everyString("01 \tLl-", 6, func(arg []byte) {
		line := append([]byte("BDAT "), bytes.ReplaceAll(arg, []byte("L"), []byte("LAST"))...)
		cmd, _ := Parse(append(line, "\r\n"...))
		size, last, ok := cmd.Chunk(line)
		canonical := fmt.Sprintf("BDAT %d", size)
		if last {
			canonical += " LAST"
		}
		if ok && string(line) != canonical {
			t.Fatalf("%q is read as %d %v", line, size, last)
		}
		if n := 0; !ok {
			if k, _ := fmt.Sscanf(string(line), "BDAT %d", &n); k == 1 && n >= 0 && (string(line) == fmt.Sprint("BDAT ", n) || string(line) == fmt.Sprint("BDAT ", n, " LAST")) {
				t.Fatalf("%q is refused", line)
			}
		}
	})
}
