package smtp

import (
	"bytes"
	"errors"
)

// Bounds of a reply: a broken or malicious backend must not grow it without
// end. RFC 5321 section 4.5.3.1.5 asks for lines of 512 octets.
const (
	MaxReplyLine  = 4 << 10
	MaxReplyLines = 512
)

// ErrReply says that a backend's octets are no SMTP reply.
var ErrReply = errors.New("reply is not SMTP")

// Replies reads a stream of replies (RFC 5321 section 4.2) line by line. Its
// zero value stands before a reply.
type Replies struct {
	Code  int // of the line read last
	lines int // of the reply that has begun
}

// Line finds the first line of b. It returns the line's length with its end,
// or 0 if its end has not come yet; last says that the line ends a reply. All
// lines of a reply must have the same code.
func (r *Replies) Line(b []byte) (n int, last bool, err error) {
	n = bytes.IndexByte(b, '\n') + 1
	if n > MaxReplyLine || n == 0 && len(b) >= MaxReplyLine {
		return 0, false, ErrReply
	}
	if n == 0 {
		return 0, false, nil
	}
	text := bytes.TrimSuffix(b[:n-1], crlf[:1])
	code, ok := replyCode(text)
	if !ok || r.lines > 0 && code != r.Code {
		return 0, false, ErrReply
	}
	if r.lines++; r.lines > MaxReplyLines {
		return 0, false, ErrReply
	}
	r.Code = code
	if last = len(text) == 3 || text[3] == ' '; last {
		r.lines = 0
	}
	return n, last, nil
}

var crlf = []byte("\r\n")

// replyCode reads the three digits and what must follow them.
func replyCode(text []byte) (code int, ok bool) {
	if len(text) < 3 || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return 0, false
	}
	for _, c := range text[:3] {
		if c < '0' || c > '9' {
			return 0, false
		}
		code = code*10 + int(c-'0')
	}
	return code, 200 <= code && code < 600
}
