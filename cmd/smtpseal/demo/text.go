package demo

import (
	"bufio"
	"bytes"
	"errors"
)

var errTooLarge = errors.New("message too large")

// readText reads the text of a message up to its end and undoes the doubled
// dots (RFC 5321 section 4.5.2). A message over maxMessage is read to its end
// and not kept.
func readText(in *bufio.Reader) ([]byte, error) {
	var text []byte
	size := 0
	fresh, cr := true, false // behind CRLF; behind CR
	for {
		// A line that is longer than the reader's buffer comes in pieces.
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, err
		}
		if fresh && string(piece) == ".\r\n" {
			if size > maxMessage {
				return nil, errTooLarge
			}
			return text, nil
		}
		if fresh && piece[0] == '.' {
			piece = piece[1:]
		}
		if size += len(piece); size <= maxMessage {
			text = append(text, piece...)
		}
		fresh = bytes.HasSuffix(piece, []byte("\r\n")) || cr && string(piece) == "\n"
		cr = bytes.HasSuffix(piece, []byte("\r"))
	}
}

// stuff is the opposite of readText: text as it is sent, dots doubled at the
// start of lines, the end added. The text must end in CRLF.
func stuff(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		if line[0] == '.' {
			out = append(out, '.')
		}
		out = append(out, line...)
	}
	return append(out, ".\r\n"...)
}
