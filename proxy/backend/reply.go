package backend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"unicode"
)

// Bounds of a check, beside its time: a broken server must neither fill our
// memory nor our log. RFC 5321 section 4.5.3.1.5 asks for lines of 512 octets.
const (
	maxLine  = 4 << 10  // octets of a reply's line
	maxReply = 32 << 10 // octets of a reply
	maxWords = 200      // octets of it that are quoted
	maxError = 512      // octets of an error, which may give advice as well
)

func (d *dialogue) ask(command string) (code int, words string, err error) {
	if _, err := io.WriteString(d.conn, command+"\r\n"); err != nil {
		return 0, "", d.plain(err)
	}
	return d.reply()
}

var (
	errSilent  = errors.New("no answer")
	errCut     = errors.New("the connection was closed")
	errAlien   = errors.New("no SMTP")
	errLong    = errors.New("reply too long")
	errSurplus = errors.New("an answer too many")
)

// reply reads a reply (RFC 5321 section 4.2) and returns its code and the
// first of its lines.
func (d *dialogue) reply() (code int, words string, err error) {
	for size := 0; ; {
		line, err := d.in.ReadSlice('\n')
		if size += len(line); size > maxReply || errors.Is(err, bufio.ErrBufferFull) {
			return 0, "", errLong
		}
		if err != nil {
			return 0, "", d.plain(err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		this, last, ok := replyCode(text)
		if !ok || code != 0 && this != code {
			return 0, "", fmt.Errorf("%w: %s", errAlien, printable(text, maxWords))
		}
		if code == 0 {
			code, words = this, printable(text, maxWords)
		}
		if last {
			return code, words, nil
		}
	}
}

func replyCode(line string) (code int, last, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	for _, c := range []byte(line[:3]) {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		code = code*10 + int(c-'0')
	}
	return code, len(line) == 3 || line[3] == ' ', 200 <= code && code < 600
}

// plain says what an error of a connection means here, without the ports that
// make each one another.
func (d *dialogue) plain(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w within %v", errSilent, d.b.Health.withDefaults().Timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe):
		return errCut
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}

// printable bounds what servers say and makes it fit for a log.
func printable(words string, longest int) string {
	words = strings.ToValidUTF8(words[:min(len(words), longest)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, words)
}
