package smtp

import "bytes"

// MaxOffer is the room that EHLO needs behind the reply to offer STARTTLS.
const MaxOffer = len("-\r\n250 STARTTLS\r\n")

// alwaysHidden are the keywords that never pass: a TLS that would be the
// backend's own, words by which a trusted host speaks for others, and
// REQUIRETLS (RFC 8689), which a plain hop cannot honour.
var alwaysHidden = Keywords{"STARTTLS", "XCLIENT", "XFORWARD", "X-ANONYMOUSTLS", "XEXCH50", "REQUIRETLS"}

// EHLO edits a whole 250 reply to EHLO in place: it drops the keywords that
// must not pass and the AUTH mechanisms that cannot work here, and offers
// STARTTLS if the rules say so. Order, text and the greeting line are kept. b
// must have MaxOffer octets of room behind it. It returns the edited reply and
// whether the client was told of CHUNKING (RFC 3030).
func (r *Rules) EHLO(b []byte) (reply []byte, chunking bool) {
	w, last := 0, 0 // octets kept; where the last kept line begins
	for first := true; len(b) > 0; first = false {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			n = len(b)
		}
		line := b[:n]
		b = b[n:]
		if !first {
			if line = r.extension(line); len(line) == 0 {
				continue
			}
			word, _ := keyword(line[min(4, len(line)):])
			chunking = chunking || equalFold(word, "CHUNKING")
		}
		if reply == nil {
			reply = line[:0:cap(line)]
		}
		last = w
		w += copy(reply[w:w+len(line)], line)
	}
	reply = reply[:w]
	if r.Offer {
		reply = mark(reply, last, '-')
		last = len(reply)
		reply = append(reply, "250 STARTTLS\r\n"...)
	}
	return mark(reply, last, ' '), chunking
}

// mark sets what follows the code of the line that begins at from: a blank if
// it is the last one, else a hyphen. A bare code is given room for it.
func mark(reply []byte, from int, c byte) []byte {
	at := from + 3
	if at < len(reply) && (reply[at] == '\r' || reply[at] == '\n') {
		if c == ' ' {
			return reply
		}
		reply = append(reply, 0)
		copy(reply[at+1:], reply[at:])
	}
	reply[at] = c
	return reply
}

// extension returns what may pass of one line of an EHLO reply.
func (r *Rules) extension(line []byte) []byte {
	if len(line) < 4 {
		return line
	}
	word, rest := keyword(line[4:])
	switch {
	case alwaysHidden.Has(word), r.Hide.Has(word):
		return nil
	case equalFold(word, "AUTH"):
		return r.auth(line, len(line)-len(rest))
	}
	return line
}

// auth drops mechanisms from an AUTH line, of which names begins behind the
// keyword: *-PLUS binds to a TLS channel (RFC 5802) that ends here, EXTERNAL
// to a client certificate (RFC 4422). A line that loses all its mechanisms is
// dropped, one that loses none is not touched.
func (r *Rules) auth(line []byte, names int) []byte {
	if r.Clear {
		return nil
	}
	w, kept, dropped := names, 0, 0
	for at := names; at < len(line); {
		end := at
		for end < len(line) && !isMechanism(line[end]) {
			end++ // the separators in front: blanks, or = of old servers
		}
		name := end
		for end < len(line) && isMechanism(line[end]) {
			end++
		}
		if name < end && r.unfit(line[name:end]) {
			dropped++
		} else {
			if name < end {
				kept++
			}
			w += copy(line[w:], line[at:end])
		}
		at = end
	}
	if dropped > 0 && kept == 0 {
		return nil
	}
	return line[:w]
}

// isMechanism reports whether c may stand in a SASL mechanism's name.
func isMechanism(c byte) bool { return isKeyword(c) || c == '_' }

func (r *Rules) unfit(mechanism []byte) bool {
	const plus = "-PLUS"
	return len(mechanism) >= len(plus) && equalFold(mechanism[len(mechanism)-len(plus):], plus) ||
		!r.External && equalFold(mechanism, "EXTERNAL")
}
