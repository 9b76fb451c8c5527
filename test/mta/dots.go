package mta

// dots is the framing of DATA (RFC 5321 section 4.5.2): the body ends with
// CRLF "." CRLF, and a dot at the start of any other line is dropped.
//
// When lenient it stands for the servers that fell to SMTP smuggling: any of
// CR, LF and CRLF ends a line, so a dot alone between any two of them ends the
// body, and what follows is taken for commands.
type dots struct {
	lenient bool
	state   dotState
}

type dotState int

const (
	lineStart dotState = iota
	middle
	cr       // behind a CR
	dot      // behind a dot at the start of a line, not yet kept
	dotAndCR // behind such a dot and a CR
)

func (d *dots) done() bool { return false }

func (d *dots) take(octets, body []byte) (int, []byte, bool) {
	for i, octet := range octets {
		switch d.state {
		case dot:
			if octet == '\r' {
				d.state = dotAndCR
				continue
			}
			if octet == '\n' && d.lenient {
				return i + 1, body, true
			}
		case dotAndCR:
			if octet == '\n' {
				return i + 1, body, true
			}
			if d.lenient {
				return i, body, true
			}
			body = append(body, '\r')
			d.state = cr
		case lineStart:
			if octet == '.' {
				d.state = dot
				continue
			}
		}
		body = append(body, octet)
		d.state = d.behind(octet)
	}
	return len(octets), body, false
}

// behind is the state after an octet that is no dot at the start of a line.
func (d *dots) behind(octet byte) dotState {
	switch {
	case octet == '\n' && (d.state == cr || d.lenient):
		return lineStart
	case octet == '\r' && d.lenient:
		return lineStart // an LF behind it is taken for an empty line's end, and kept
	case octet == '\r':
		return cr
	}
	return middle
}
