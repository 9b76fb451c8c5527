package main

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
)

// bodyEnd ends every body.
const bodyEnd = "\r\n.\r\n"

// writeSize is how much of a body a client gives to one write.
const writeSize = 64 << 10

// A body is a message as it goes over the wire after DATA, dots stuffed, its
// end included, with the reply that proves its arrival.
type body struct {
	writes [][]byte // all but the last are the same memory
	length int64
	reply  string
}

// newBody repeats a pattern to about size octets. The pattern may leave a
// line open: the end begins with a letter of its own.
func newBody(pattern []byte, size int) *body {
	chunk := bytes.Repeat(pattern, max(1, min(size, writeSize)/len(pattern)))
	b := &body{}
	for n := len(chunk); n <= size; n += len(chunk) {
		b.writes = append(b.writes, chunk)
	}
	// In one write with the last chunk: a message of one TLS record is one.
	last := len(b.writes) - 1
	b.writes[last] = append(bytes.Clone(chunk), "x"+bodyEnd...)
	var sum uint32
	for _, w := range b.writes {
		b.length += int64(len(w))
		sum = crc32.Update(sum, castagnoli, w)
	}
	b.reply = string(accepted(b.length, sum))
	return b
}

// ordinaryPattern is what most mail is made of: base64 lines of 76, some
// text with short and empty lines, now and then a stuffed dot.
func ordinaryPattern() []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	random := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for len(b) < 5000 {
		length := 76
		switch random.IntN(20) {
		case 0:
			length = 0
		case 1:
			length = random.IntN(76)
		case 2:
			b = append(b, ".."...)
		}
		for range length {
			b = append(b, alphabet[random.IntN(len(alphabet))])
		}
		b = append(b, "\r\n"...)
	}
	return b[:len(b):len(b)]
}

// hostileBodies try to slow a scan for the end of a body; none holds a dot
// alone on a line, so none may be refused.
var hostileBodies = []struct{ name, pattern string }{
	{"dots", "."},
	{"line feeds", "\n"},
	{"carriage returns", "\r"},
	{"empty lines", "\r\n"},
	{"stuffed dots", "..\r\n"},
	{"dots behind line feeds", "\n.."},
	{"dots behind carriage returns", "\r.."},
}
