package admin

import (
	"fmt"
	"strings"
)

// Mail is whether mail flows, in one word.
type Mail string

// Whether mail flows.
const (
	MailFlows    Mail = "flows"
	MailImpaired Mail = "impaired" // it flows, but not everywhere, not for long, or not for new clients
	MailStopped  Mail = "stopped"
)

// Bounds of the sentence: an error in it may be a whole dialogue, or every
// mistake of a file, and a bad day has a hundred servers that are down.
const (
	maxHeadline = 240 // octets of the worst thing
	maxElse     = 3   // other things that are named
	maxName     = 80  // octets of each of them
)

// headline is the worst thing that verdict finds, on one line, and in short what
// else is wrong: a mistake must not be hidden by another.
func (s *Status) headline() (Mail, string) {
	mail, text, others := s.verdict()
	text = bounded(text, maxHeadline)
	for i, other := range others {
		if i == maxElse {
			return mail, fmt.Sprintf("%s; and %d more", text, len(others)-i)
		}
		text += "; " + bounded(other.brief(), maxName)
	}
	return mail, text
}

// bounded is the first line of a text, and of that not too much.
func bounded(text string, limit int) string {
	text, _, cut := strings.Cut(text, "\n")
	if len(text) > limit {
		text, cut = text[:limit], true
	}
	text = strings.ToValidUTF8(strings.TrimSpace(text), "")
	if cut {
		text += " …"
	}
	return text
}

// verdict says whether mail flows, in one word and in one sentence about the
// worst thing, which must be read in five seconds; the others are in others.
func (s *Status) verdict() (mail Mail, text string, others []worry) {
	switch {
	case s.State == Draining:
		return MailImpaired, "Draining: " + left(s.sessions()), nil
	case s.State == Starting:
		return MailStopped, "Starting" + because(s.Reasons), nil
	case s.listening() == 0:
		return MailStopped, "Mail does not flow: there is no listener", s.worries(true)
	}
	var cut []string
	var why string
	for _, l := range s.Listeners {
		if reason := s.cutOff(l); reason != "" {
			cut = append(cut, l.Name)
			why = first(why, reason)
		}
	}
	switch {
	case len(cut) == s.listening():
		return MailStopped, "Mail does not flow: " + why, s.worries(true)
	case len(cut) > 0:
		return MailImpaired, "Mail does not flow on " + and(cut) + ": " + why, s.worries(true)
	}
	if all := s.worries(false); len(all) > 0 {
		return MailImpaired, "Mail flows, but " + all[0].long(), all[1:]
	}
	for _, b := range s.Backends {
		if b.unknown() {
			return MailFlows, "Mail should flow: backend " + b.Name + " has not been asked yet", nil
		}
	}
	return MailFlows, "Mail flows", nil
}

func left(sessions int) string {
	switch sessions {
	case 0:
		return "no session left"
	case 1:
		return "1 session left"
	}
	return fmt.Sprintf("%d sessions left", sessions)
}

// and joins names as in a sentence.
func and(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// because is what follows a claim that the reasons are for.
func because(reasons []string) string {
	if len(reasons) == 0 {
		return ""
	}
	return ": " + reasons[0]
}

// listening counts the listeners that the configuration has.
func (s *Status) listening() (n int) {
	for _, l := range s.Listeners {
		if !l.Removed {
			n++
		}
	}
	return n
}

// cutOff is why a listener can bring no mail to its backend, or "".
func (s *Status) cutOff(l Listener) string {
	if l.Removed {
		return ""
	}
	if !l.TLSReady && l.Mode != "starttls-optional" { // which takes mail in clear meanwhile
		return s.noCertificate()
	}
	for _, b := range s.Backends {
		if b.Name == l.Backend {
			return b.down()
		}
	}
	return ""
}

func (s *Status) noCertificate() string {
	for _, c := range s.Certificates {
		if c.NotAfter.IsZero() {
			return "there is no certificate for " + first(c.title(), "any name") + colon(first(c.LastError, c.Problem))
		}
	}
	return "there is no certificate"
}

// down is why none of a backend's servers can be used, or "".
func (b *Backend) down() string {
	var why string
	for _, server := range b.Servers {
		if server.Up {
			return ""
		}
		why = first(why, server.Error)
	}
	if len(b.Servers) == 0 {
		return "backend " + b.Name + " has no servers"
	}
	return "backend " + b.Name + " is down" + colon(why)
}

// unknown reports whether nothing is known of any server.
func (b *Backend) unknown() bool {
	for _, server := range b.Servers {
		if server.Known {
			return false
		}
	}
	return true
}

func (c *Certificate) title() string { return strings.Join(c.Names, ", ") }

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}
