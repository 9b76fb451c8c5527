package smtp

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A Body finds the end of a message sent by DATA (RFC 5321 section 4.5.2):
// CRLF "." CRLF, and nothing else. A "." alone between line ends of any other
// kind is what one server takes for the end and another for text; a proxy that
// passes it lends its name to SMTP smuggling (CVE-2023-51764, -51765, -51766).
// The zero value stands at the beginning of a message.
type Body struct{ at place }

// A place says what the octets just passed were.
type place uint8

const (
	afterCRLF place = iota // where a message begins, too
	afterCR                // and no LF yet
	afterLF                // without CR before it
	inText
	dotGood // CRLF "."
	dotBad  // CR "." or LF "."
)

// Found is what a scan of a message has come upon.
type Found uint8

const (
	// Text: the message goes on.
	Text Found = iota
	// End: the end of data stands behind the octets returned.
	End
	// Smuggled: the octet behind those returned would complete an end of data
	// that is none; it must not be passed.
	Smuggled
)

// Scan looks at the next octets of a message. The first n of them may be
// passed; if found is Text, at most one octet (a CR that may belong to the end)
// is left, and must be in front of what is given next.
func (s *Body) Scan(b []byte) (n int, found Found) {
	// What b begins with depends on what came before; behind that only a dot
	// with a line end on each side is of interest, and there is at most one.
	n, found, done := s.walk(b, 0, head)
	if done {
		return n, found
	}
	start := len(b) - tail
	if dot := loneDot(b, n); dot >= 0 {
		start = dot - 2 // where CRLF would begin
	}
	if start > n {
		n, s.at = start, inText // what came before no longer matters
	}
	n, found, _ = s.walk(b, n, len(b))
	return n, found
}

const (
	head = 4 // octets that are always walked
	tail = 3 // CRLF ".": all that a place can depend on
)

// walk takes b octet by octet from i, at least to until and not in the middle
// of a dot's line, or to its end; done says that there is nothing more to do.
func (s *Body) walk(b []byte, i, until int) (n int, found Found, done bool) {
	for ; i < len(b) && (i < until || s.at >= dotGood); i++ {
		c := b[i]
		switch {
		case s.at == dotGood && c == '\r':
			if i+1 == len(b) {
				return i, Text, true
			}
			if b[i+1] == '\n' {
				s.at = afterCRLF
				return i + 2, End, true
			}
			return i, Smuggled, true
		case s.at >= dotGood && (c == '\r' || c == '\n'):
			return i, Smuggled, true
		case c == '\r':
			s.at = afterCR
		case c == '\n' && s.at == afterCR:
			s.at = afterCRLF
		case c == '\n':
			s.at = afterLF
		case c == '.' && s.at == afterCRLF:
			s.at = dotGood
		case c == '.' && s.at != inText && s.at < dotGood:
			s.at = dotBad
		default:
			s.at = inText
		}
	}
	return i, Text, i == len(b)
}

// loneDot finds the first dot at or behind i with a CR or LF on either side, or
// returns -1. IndexByte is fastest where dots are rare, as they are in mail; in
// a body of dots it would cost a call an octet, so blocks in which they are
// dense are searched eight octets at a time.
func loneDot(b []byte, i int) int {
	const dense, near, block = 8, 256, 4096
	last := len(b) - 1 // a dot there has no neighbour yet
	for from, dots := i, 0; i < last; {
		k := bytes.IndexByte(b[i:last], '.')
		if k < 0 {
			return -1
		}
		i += k
		if isEOL(b[i-1]) && isEOL(b[i+1]) {
			return i
		}
		i++
		if dots++; dots < dense {
			continue
		}
		if i-from < near {
			n, found := loneDotDense(b[i-1 : min(i+block, len(b))])
			if i += n; found {
				return i
			}
		}
		from, dots = i, 0
	}
	return -1
}

func isEOL(c byte) bool { return c == '\r' || c == '\n' }

// loneDotDense searches b from its second octet in steps of eight. It returns
// how far it came, or where the dot is, counted from the second octet.
func loneDotDense(b []byte) (n int, found bool) {
	for ; len(b) >= 10; b = b[8:] {
		hits := isDot(binary.LittleEndian.Uint64(b[1:9]))
		if hits &= areEOL(binary.LittleEndian.Uint64(b[0:8])); hits == 0 {
			n += 8
			continue
		}
		if hits &= areEOL(binary.LittleEndian.Uint64(b[2:10])); hits != 0 {
			return n + bits.TrailingZeros64(hits)/8, true
		}
		n += 8
	}
	return n, false
}

// The high bit of each octet of these is set where the octet of x is meant.
const (
	ones = 0x0101010101010101
	low7 = 0x7f7f7f7f7f7f7f7f
)

func isDot(x uint64) uint64 { return zeroes(x ^ '.'*ones) }

func areEOL(x uint64) uint64 { return zeroes(x^'\r'*ones) | zeroes(x^'\n'*ones) }

// zeroes finds octets of zero; unlike the shorter formula it has no false ones.
func zeroes(x uint64) uint64 { return ^((x&low7 + low7) | x | low7) }
