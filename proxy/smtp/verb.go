package smtp

// A Verb is a command's keyword. Only those are told apart whose meaning the
// framing or the safety of a session depends on; everything else is Other and
// passes as it is.
type Verb uint8

// The verbs of RFC 5321 section 4.1.1 and of the extensions that matter here.
const (
	Other Verb = iota
	EHLO
	HELO
	MAIL
	RCPT
	DATA
	BDAT // RFC 3030
	RSET
	NOOP
	HELP
	QUIT
	AUTH     // RFC 4954
	STARTTLS // RFC 3207
	VRFY
	EXPN
	ETRN // RFC 1985
	XCLIENT
	XFORWARD
	XANONYMOUSTLS // Exchange: a second TLS inside ours
	XEXCH50
	TURN
	ATRN // RFC 2645
	LHLO // RFC 2033: one reply a recipient, which would break the count
)

// Properties of a verb, so that policy is a table and not code.
const (
	// groups: the next command may share its batch (RFC 2920 section 3.1).
	groups = 1 << iota
	// denied: a backend trusts us, so a client must never reach this.
	denied
)

var verbs = [...]struct {
	name  string
	flags uint8
}{
	Other:         {"", 0},
	EHLO:          {"EHLO", 0},
	HELO:          {"HELO", 0},
	MAIL:          {"MAIL", groups},
	RCPT:          {"RCPT", groups},
	DATA:          {"DATA", 0},
	BDAT:          {"BDAT", 0},
	RSET:          {"RSET", groups},
	NOOP:          {"NOOP", 0},
	HELP:          {"HELP", 0},
	QUIT:          {"QUIT", 0},
	AUTH:          {"AUTH", 0},
	STARTTLS:      {"STARTTLS", 0},
	VRFY:          {"VRFY", 0},
	EXPN:          {"EXPN", 0},
	ETRN:          {"ETRN", 0},
	XCLIENT:       {"XCLIENT", denied},
	XFORWARD:      {"XFORWARD", denied},
	XANONYMOUSTLS: {"X-ANONYMOUSTLS", denied},
	XEXCH50:       {"XEXCH50", denied},
	TURN:          {"TURN", denied},
	ATRN:          {"ATRN", denied},
	LHLO:          {"LHLO", denied},
}

// String returns the verb in capitals, or "" for Other.
func (v Verb) String() string { return verbs[v].name }

// verbOf finds the verb of a keyword, whatever its case.
func verbOf(keyword []byte) Verb {
	var upper [len("X-ANONYMOUSTLS")]byte
	if len(keyword) == 0 || len(keyword) > len(upper) {
		return Other
	}
	for i, c := range keyword {
		upper[i] = toUpper(c)
	}
	word := string(upper[:len(keyword)]) // does not escape: no allocation
	for v := EHLO; int(v) < len(verbs); v++ {
		if verbs[v].name == word {
			return v
		}
	}
	return Other
}

func toUpper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// isKeyword reports whether c may stand in a keyword (RFC 5321 section 4.1.1.1,
// ehlo-keyword).
func isKeyword(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// keyword cuts the first keyword out of a line. Leading blanks and control
// octets are skipped, because Postfix and Sendmail skip them too: what a
// lenient backend would take for XCLIENT must be XCLIENT here.
func keyword(line []byte) (word, rest []byte) {
	start := 0
	for start < len(line) && line[start] <= ' ' {
		start++
	}
	end := start
	for end < len(line) && isKeyword(line[end]) {
		end++
	}
	return line[start:end], line[end:]
}

// Keywords is a list of words in capitals; one that ends in * stands for all
// that begin like it.
type Keywords []string

// Has reports whether word is in the list, whatever its case.
func (k Keywords) Has(word []byte) bool {
	for _, entry := range k {
		prefix := len(entry) - 1
		if prefix >= 0 && entry[prefix] == '*' {
			if len(word) >= prefix && equalFold(word[:prefix], entry[:prefix]) {
				return true
			}
		} else if equalFold(word, entry) {
			return true
		}
	}
	return false
}

// equalFold compares ASCII without regard to case; upper is in capitals.
func equalFold(word []byte, upper string) bool {
	if len(word) != len(upper) {
		return false
	}
	for i, c := range word {
		if toUpper(c) != upper[i] {
			return false
		}
	}
	return true
}
