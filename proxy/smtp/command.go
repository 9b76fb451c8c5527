package smtp

import (
	"bytes"
	"errors"
)

// MaxLine is the longest command line in octets, its end included. RFC 5321
// section 4.5.3.1.4 asks for 512 and RFC 4954 section 4 for 12,288 octets of
// AUTH; a line without end must not fill memory.
const MaxLine = 16 << 10

// MaxChunk is the largest BDAT chunk. A backend that keeps the size in 32 bits
// would wrap at more, and take the rest of the chunk for commands.
const MaxChunk = 1<<31 - 1

// Errors that end a session: the sender and the backend could disagree about
// what such a line says.
var (
	ErrLineTooLong = errors.New("command line longer than 16 KiB")
	ErrLineOctet   = errors.New("NUL or bare CR in a command line")
)

// A Command is one line of a client, cut into its parts.
type Command struct {
	Verb    Verb
	Keyword []byte // as the client wrote it
	Arg     []byte // what follows the keyword, without the line end
	Len     int    // octets of the line, its end included
	Bare    bool   // the line ends with LF alone
}

// Line finds the first line of b. It returns the line's length with its end,
// or 0 if its end has not come yet; bare says that the end is LF without CR.
// NUL, a CR that is not part of the end, and more than MaxLine octets are
// errors, as soon as they are seen.
func Line(b []byte) (n int, bare bool, err error) {
	n = bytes.IndexByte(b, '\n') + 1
	text := b
	if n > 0 {
		text = b[:n-1]
	}
	if len(text) >= MaxLine {
		return 0, false, ErrLineTooLong
	}
	if cr := bytes.IndexByte(text, '\r'); cr >= 0 && cr != len(text)-1 || bytes.IndexByte(text, 0) >= 0 {
		return 0, false, ErrLineOctet
	}
	return n, n > 0 && (n == 1 || b[n-2] != '\r'), nil
}

// Whole reports whether a whole line stands at the front of b, or what can be
// none.
func Whole(b []byte) bool {
	n, _, err := Line(b)
	return n > 0 || err != nil
}

// Parse cuts the first line of b into a Command; its Len is 0 if the line is
// not complete.
func Parse(b []byte) (Command, error) {
	n, bare, err := Line(b)
	if n == 0 || err != nil {
		return Command{}, err
	}
	end := n - 2
	if bare {
		end = n - 1
	}
	word, arg := keyword(b[:end])
	return Command{Verb: verbOf(word), Keyword: word, Arg: arg, Len: n, Bare: bare}, nil
}

// Chunk reads the argument of BDAT (RFC 3030 section 2). It is strict, because
// whoever reads the size differently takes message text for commands: digits
// without a leading zero, one blank, LAST, nothing else, at most MaxChunk. The
// keyword must stand at the very beginning of the line.
func (c *Command) Chunk(line []byte) (size int64, last, ok bool) {
	if len(line) < len("BDAT ") || !equalFold(line[:4], "BDAT") || line[4] != ' ' {
		return 0, false, false
	}
	arg := c.Arg[1:]
	digits := 0
	for digits < len(arg) && '0' <= arg[digits] && arg[digits] <= '9' {
		size = size*10 + int64(arg[digits]-'0')
		if digits++; size > MaxChunk {
			return 0, false, false
		}
	}
	if digits == 0 || digits > 1 && arg[0] == '0' {
		return 0, false, false
	}
	switch rest := arg[digits:]; {
	case len(rest) == 0:
		return size, false, true
	case rest[0] == ' ' && equalFold(rest[1:], "LAST"):
		return size, true, true
	}
	return 0, false, false
}
