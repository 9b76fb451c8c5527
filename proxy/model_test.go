package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A strictMTA is a backend in memory that takes everything to the letter. What
// it says depends on nothing but what it was told, so that one of them behind a
// proxy and one behind the reference must hear and say the same.
type strictMTA struct {
	chunking bool
	mail     bool
	rcpts    int
	auth     int      // lines of an exchange still to come
	heard    []string // commands, AUTH lines, whole bodies and chunks
}

const ehloExtensions = "250-XCLIENT NAME ADDR\r\n250-STARTTLS\r\n250-AUTH LOGIN PLAIN EXTERNAL\r\n250-X-EXPS NTLM\r\n250-REQUIRETLS\r\n"

func (m *strictMTA) line(line string) string {
	m.heard = append(m.heard, line)
	if m.auth > 0 {
		return m.authLine(line)
	}
	verb := strings.ToUpper(strings.TrimSpace(line))
	verb, arg, _ := strings.Cut(verb, " ")
	switch verb {
	case "EHLO":
		m.mail, m.rcpts = false, 0
		if m.chunking {
			return "250-mta\r\n" + ehloExtensions + "250 CHUNKING\r\n"
		}
		return "250-mta\r\n" + ehloExtensions + "250 DSN\r\n"
	case "HELO", "RSET":
		m.mail, m.rcpts = false, 0
		return "250 clean\r\n"
	case "MAIL":
		if m.mail {
			return "503 nested\r\n"
		}
		m.mail = true
		return "250-sender\r\n250 ok\r\n"
	case "RCPT":
		if !m.mail || strings.Contains(arg, "X") {
			return "550 no\r\n"
		}
		m.rcpts++
		return "250 recipient ok\r\n"
	case "DATA":
		if m.rcpts == 0 {
			return "503 no recipients\r\n"
		}
		return "354 go\r\n"
	case "AUTH":
		m.auth = 2
		return "334 VXNlcm5hbWU6\r\n"
	case "NOOP":
		return "250\r\n"
	case "QUIT":
		return "221 bye\r\n"
	}
	return "500-what\r\n500 was that\r\n"
}

func (m *strictMTA) authLine(line string) string {
	if m.auth--; line == "*\r\n" {
		m.auth = 0
		return "501 cancelled\r\n"
	}
	if m.auth == 0 {
		return "235 welcome\r\n"
	}
	return "334 UGFzc3dvcmQ6\r\n"
}

func (m *strictMTA) message(body string) string {
	m.heard = append(m.heard, "message "+body)
	m.mail, m.rcpts = false, 0
	return fmt.Sprintf("250 queued %d\r\n", len(body))
}

func (m *strictMTA) chunk(line, octets string) string {
	m.heard = append(m.heard, line+octets)
	if !m.mail {
		return "503 no sender\r\n"
	}
	if strings.Contains(strings.ToUpper(line), "LAST") {
		m.mail, m.rcpts = false, 0
	}
	return fmt.Sprintf("250 %d octets\r\n", len(octets))
}

// serve is the MTA on a connection. It sends each reply in two pieces, cut
// where cut says. What may come is as the reference has it.
func (m *strictMTA) serve(t *testing.T, c net.Conn, cut int, rules *reference) {
	reply := func(text string) error {
		at := cut % len(text)
		_, err := io.WriteString(c, text[:at])
		if err == nil {
			_, err = io.WriteString(c, text[at:])
		}
		return err
	}
	r := bufio.NewReaderSize(c, 64<<10)
	err := reply("220 mta\r\n")
	for err == nil {
		var line string
		if line, err = r.ReadString('\n'); err != nil {
			return
		}
		if !strings.HasSuffix(line, "\r\n") || strings.ContainsAny(line[:len(line)-2], "\r\x00") {
			t.Errorf("a line reached the backend as %q", line)
		}
		if m.auth == 0 && rules.denies(line) {
			t.Errorf("%q reached the backend", line)
		}
		if size, ok := chunkSize(line); ok && m.auth == 0 {
			octets, _ := io.ReadAll(io.LimitReader(r, int64(size)))
			if len(octets) < size {
				return
			}
			err = reply(m.chunk(line, string(octets)))
			continue
		}
		answer := m.line(line)
		if err = reply(answer); err != nil || answer[:3] != "354" {
			continue
		}
		body := ""
		for line = ""; line != ".\r\n"; body += line {
			if line, err = readLine(r); err != nil {
				return
			}
		}
		err = reply(m.message(body))
	}
}

// readLine reads to CRLF, and to nothing else.
func readLine(r *bufio.Reader) (line string, err error) {
	for !strings.HasSuffix(line, "\r\n") {
		part, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line += part
	}
	return line, nil
}

var bdatLine = regexp.MustCompile(`(?i)^BDAT (0|[1-9][0-9]*)( LAST)?\r?\n$`)

func chunkSize(line string) (size int, ok bool) {
	match := bdatLine.FindStringSubmatch(line)
	if match == nil {
		return 0, false
	}
	size, err := strconv.Atoi(match[1])
	return size, err == nil && size < 1<<31
}
