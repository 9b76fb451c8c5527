package proxy

import (
	"regexp"
	"strings"
)

// A reference is the rules of a relay, written on a whole stream: what the
// client hears when the backend is a strictMTA. It knows nothing of pieces,
// batches, buffers or time.
type reference struct {
	mta      *strictMTA
	clear    bool
	hidden   bool // X-EXPS and XPROXY* are
	said     string
	upgraded bool // STARTTLS was taken: what follows is not compared

	rest     string
	spoken   bool
	chunking bool
	refusals int
	over     bool
}

var (
	refused  = regexp.MustCompile(`(?i)^[\x00-\x20]*(XCLIENT|XFORWARD|X-ANONYMOUSTLS|XEXCH50|TURN|ATRN|LHLO)([^A-Za-z0-9-]|$)`)
	hiding   = regexp.MustCompile(`(?i)^[\x00-\x20]*(X-EXPS|XPROXY[A-Za-z0-9-]*)([^A-Za-z0-9-]|$)`)
	starttls = regexp.MustCompile(`(?i)^[\x00-\x20]*STARTTLS([^A-Za-z0-9-]|$)`)
	bdatVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*BDAT([^A-Za-z0-9-]|$)`)
	authVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*AUTH([^A-Za-z0-9-]|$)`)
	ehloVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*EHLO([^A-Za-z0-9-]|$)`)
	heloVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*HELO([^A-Za-z0-9-]|$)`)
	quitVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*QUIT([^A-Za-z0-9-]|$)`)
	dataVerb = regexp.MustCompile(`(?i)^[\x00-\x20]*DATA([^A-Za-z0-9-]|$)`)
	http     = regexp.MustCompile(`(?i)^[\x00-\x20]*(GET|HEAD|POST|PUT|DELETE|OPTIONS|CONNECT|TRACE|PATCH|PRI) `)
)

// denies reports whether a line must not reach the backend as a command.
func (r *reference) denies(line string) bool {
	return starttls.MatchString(line) || refused.MatchString(line) || r.hidden && hiding.MatchString(line) || r.clear && authVerb.MatchString(line)
}

func (r *reference) run(stream string) {
	r.rest, r.said = stream, "220 mta\r\n"
	for !r.over {
		line, ok := r.line()
		if !ok {
			return
		}
		r.command(line)
	}
}

// line takes the next command line; ok is false if there is none, or if it is
// bad.
func (r *reference) line() (line string, ok bool) {
	for i := range len(r.rest) {
		switch c := r.rest[i]; {
		case c == 0, i > 0 && r.rest[i-1] == '\r' && c != '\n':
			if r.alien() {
				return "", false
			}
			return "", r.end("500 5.5.2 Command line too long, or with NUL or bare CR in it\r\n")
		case c == '\n':
			if r.alien() {
				return "", false
			}
			line, r.rest = r.rest[:i+1], r.rest[i+1:]
			return line, true
		}
	}
	return "", false
}

func (r *reference) alien() bool {
	switch {
	case r.spoken:
		return false
	case r.rest[0] == 0x16:
		r.end("")
	case strings.HasPrefix(r.rest, "PROXY "), http.MatchString(r.rest):
		r.end("421 4.7.0 mail.example.org This is a mail server\r\n")
	}
	return r.over
}

func (r *reference) end(words string) bool {
	r.said += words
	r.over = true
	return false
}

func (r *reference) refuse(words string) {
	if r.refusals++; r.refusals > maxRefusals {
		words = "421 4.7.0 mail.example.org Too many commands\r\n"
		r.over = true
	}
	r.said += words
}

func (r *reference) command(line string) {
	switch {
	case starttls.MatchString(line) && !r.clear:
		r.refuse("503 5.5.1 TLS is already active\r\n")
	case starttls.MatchString(line) && strings.Trim(line[strings.Index(strings.ToUpper(line), "STARTTLS")+8:], " \t\r\n") != "":
		r.refuse("501 5.5.4 Syntax error, no parameters allowed\r\n")
	case starttls.MatchString(line):
		r.upgraded, r.over = true, true
	case bdatVerb.MatchString(line):
		r.chunk(line)
	case authVerb.MatchString(line) && r.clear:
		r.refuse("538 5.7.11 Encryption required for requested authentication mechanism\r\n")
	case refused.MatchString(line), r.hidden && hiding.MatchString(line):
		r.refuse("502 5.5.1 Command not implemented\r\n")
	default:
		r.forward(line)
	}
}

func (r *reference) forward(line string) {
	r.spoken = true
	crlf := strings.TrimRight(line, "\r\n") + "\r\n"
	reply := r.mta.line(crlf)
	code := reply[:3]
	switch {
	case ehloVerb.MatchString(line) && code == "250":
		reply = r.edit(reply)
	case heloVerb.MatchString(line) && code == "250":
		r.chunking = false
	case code == "354" && !dataVerb.MatchString(line), code == "334" && !authVerb.MatchString(line):
		r.end("421 4.4.2 mail.example.org Service lost, try again later\r\n")
		return
	}
	r.said += reply
	switch {
	case quitVerb.MatchString(line) && code == "221":
		r.over = true
	case code == "354":
		r.body()
	case code == "334":
		for r.mta.auth > 0 {
			line, ok := r.line()
			if !ok {
				return
			}
			r.said += r.mta.line(strings.TrimRight(line, "\r\n") + "\r\n")
		}
	}
}

// edit knows what a strictMTA announces.
func (r *reference) edit(reply string) string {
	r.chunking = r.mta.chunking
	kept := []string{"mta"}
	if !r.clear {
		kept = append(kept, "AUTH LOGIN PLAIN")
	}
	if !r.hidden {
		kept = append(kept, "X-EXPS NTLM")
	}
	if r.chunking {
		kept = append(kept, "CHUNKING")
	} else {
		kept = append(kept, "DSN")
	}
	if r.clear {
		kept = append(kept, "STARTTLS")
	}
	return "250-" + strings.Join(kept[:len(kept)-1], "\r\n250-") + "\r\n250 " + kept[len(kept)-1] + "\r\n"
}

// body takes a message to the first dot that is alone between two line ends.
func (r *reference) body() {
	b := "\r\n" + r.rest
	for i := 2; i+1 < len(b); i++ {
		before, behind := b[i-1], b[i+1]
		if b[i] != '.' || before != '\r' && before != '\n' || behind != '\r' && behind != '\n' {
			continue
		}
		good := b[i-2:i] == "\r\n" && behind == '\r'
		if good && i+2 == len(b) {
			break // the last octet is not there yet
		}
		if !good || b[i+2] != '\n' {
			r.end("554 5.6.0 A dot alone between line ends that are not CRLF (RFC 5321 section 2.3.8)\r\n")
			return
		}
		r.said += r.mta.message(b[2 : i+3])
		r.rest = b[i+3:]
		return
	}
	r.over = true
}

func (r *reference) chunk(line string) {
	size, ok := chunkSize(line)
	if !ok {
		r.end("501 5.5.4 Syntax: BDAT size [LAST]\r\n")
		return
	}
	if size > len(r.rest) {
		r.over = true
		return
	}
	octets := r.rest[:size]
	r.rest = r.rest[size:]
	if !r.chunking {
		r.refuse("503 5.5.1 CHUNKING was not announced\r\n")
		return
	}
	r.spoken = true
	r.said += r.mta.chunk(strings.TrimRight(line, "\r\n")+"\r\n", octets)
}
