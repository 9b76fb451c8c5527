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

// maxHeadline bounds the sentence, in octets: an error in it may be a whole
// dialogue, or every mistake of a file.
const maxHeadline = 240

// headline is verdict's sentence on one line.
func (s *Status) headline() (Mail, string) {
	mail, text := s.verdict()
	text, _, cut := strings.Cut(text, "\n")
	if len(text) > maxHeadline {
		text, cut = text[:maxHeadline], true
	}
	text = strings.ToValidUTF8(strings.TrimSpace(text), "")
	if cut {
		text += " …"
	}
	return mail, text
}

// verdict says whether mail flows, in one word and in one sentence. Only the
// worst thing is in the sentence: it must be read in five seconds.
func (s *Status) verdict() (Mail, string) {
	switch {
	case s.State == Draining:
		return MailImpaired, "Draining: " + left(s.sessions())
	case s.State == Starting:
		return MailStopped, "Starting" + because(s.Reasons)
	case s.listening() == 0:
		return MailStopped, "Mail does not flow: there is no listener"
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
		return MailStopped, "Mail does not flow: " + why
	case len(cut) > 0:
		return MailImpaired, "Mail does not flow on " + and(cut) + ": " + why
	}
	return s.worry()
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

// worry says what is wrong while mail flows.
func (s *Status) worry() (Mail, string) {
	const but = "Mail flows, but "
	for _, c := range s.Certificates {
		if c.Problem != "" {
			return MailImpaired, but + "see the certificate for " + c.title() + ": " + c.Problem
		}
	}
	for _, b := range s.Backends {
		for _, server := range b.Servers {
			if !server.Up {
				return MailImpaired, but + "server " + server.Address + " of backend " + b.Name + " is down" + colon(server.Error)
			}
		}
	}
	for _, l := range s.Listeners {
		if !l.TLSReady && !l.Removed {
			return MailImpaired, but + l.Name + " has no TLS: " + s.noCertificate()
		}
	}
	if !s.Ready {
		return MailImpaired, but + "clients are sent elsewhere, because smtpseal is not ready" + because(s.Reasons)
	}
	for _, b := range s.Backends {
		if b.Warning != "" {
			return MailImpaired, but + "backend " + b.Name + " needs a look: " + b.Warning
		}
	}
	if s.Reloads.Last.Result == failed {
		return MailImpaired, but + "the configuration is the old one, because the last reload failed" + colon(s.Reloads.Last.Error)
	}
	for _, b := range s.Backends {
		if b.unknown() {
			return MailFlows, "Mail should flow: backend " + b.Name + " has not been asked yet"
		}
	}
	return MailFlows, "Mail flows"
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
