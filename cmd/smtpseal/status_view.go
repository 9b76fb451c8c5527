package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"smtpseal/admin"
)

// maxTold bounds the failures that are printed, and maxText the octets of a text
// from elsewhere: an error may be a whole dialogue.
const (
	maxTold = 3
	maxText = 4000
)

// A troubleTeller writes what somebody should look at: what it is on one line,
// and below it what to do.
type troubleTeller struct{ io.Writer }

func (w troubleTeller) tell(hint, format string, args ...any) {
	fmt.Fprintln(w, clean(fmt.Sprintf(format, args...)))
	if hint != "" {
		fmt.Fprintln(w, "  "+clean(hint))
	}
}

// clean makes a text one line that a terminal takes for nothing but text.
func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + " …"
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// tellTroubles writes all that is not well, in the order of the page. There is
// nothing where all is.
func tellTroubles(to io.Writer, now admin.Status) {
	w := troubleTeller{to}
	for _, reason := range now.Reasons {
		w.tell("", "not ready: %s", reason)
	}
	for _, b := range now.Backends {
		w.backend(b)
	}
	for _, c := range now.Certificates {
		w.certificate(c)
	}
	if last := now.Reloads.Last; last.Result == "failed" {
		w.tell("", "last reload failed%s: %s", at(last.Time, now.Now), last.Error)
	}
	if last := now.Upgrade.Last; now.Upgrade.Failed > 0 {
		w.tell("the log has the new process's own lines: mend what they say and send USR2 again",
			"last upgrade failed%s: %s", at(last.Time, now.Now), last.Error)
	}
	for i, f := range now.Failures {
		if i == maxTold {
			break
		}
		w.failure(f, now.Now)
	}
}

func (w troubleTeller) backend(b admin.Backend) {
	for _, server := range b.Servers {
		if !server.Up {
			w.tell(server.Hint, "server %s of backend %s is down: %s", server.Address, b.Name, server.Error)
		}
	}
	if b.Warning != "" {
		w.tell("", "backend %s: %s", b.Name, b.Warning)
	}
}

func (w troubleTeller) certificate(c admin.Certificate) {
	var why []string
	if c.Problem != "" {
		why = append(why, c.Problem)
	}
	if c.LastError != "" && !strings.Contains(c.Problem, c.LastError) {
		why = append(why, "last try failed: "+c.LastError)
	}
	if len(why) > 0 {
		w.tell(c.Hint, "certificate for %s: %s", strings.Join(c.Names, ", "), strings.Join(why, "; "))
	}
}

func (w troubleTeller) failure(f admin.Failure, now time.Time) {
	what := strings.ReplaceAll(f.Outcome, "_", " ")
	if f.Violation != "" {
		what += " (" + strings.ReplaceAll(f.Violation, "_", " ") + ")"
	}
	if f.Count > 1 {
		what += fmt.Sprintf(", %d times", f.Count)
	}
	w.tell(f.Hint, "failure on %s%s: %s: %s", f.Listener, at(f.Time, now), what, f.Error)
}

// at is how long ago something was, by the clock of the process that says so.
func at(t, now time.Time) string {
	if t.IsZero() || now.Before(t) {
		return ""
	}
	return " " + now.Sub(t).Round(time.Second).String() + " ago"
}
