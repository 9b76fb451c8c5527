package main

import (
	"fmt"
	"io"
	"os"

	"smtpseal/probe"
)

// A probeView writes checks as they come, the endpoints one below the other
// although they are looked at together: what comes from a later one is held.
type probeView struct {
	stage
	live bool // a terminal, on which the last line may be written again

	turn  int // whose checks are written
	held  map[int][]string
	ended map[int]bool
	begun map[int]bool
	shown bool // there is a line that says what is going on
}

func newProbeView(out io.Writer) *probeView {
	return &probeView{stage: newStage(out), live: isTerminal(out) && os.Getenv("TERM") != "dumb",
		held: map[int][]string{}, ended: map[int]bool{}, begun: map[int]bool{}}
}

const (
	red    = "31"
	yellow = "33"
)

// verdicts are the words that a check begins with.
var verdicts = map[probe.Status]struct{ word, colour string }{
	probe.OK:   {"ok", green},
	probe.Warn: {"warn", yellow},
	probe.Fail: {"FAIL", red},
	probe.Note: {"note", cyan},
}

func (v *probeView) tell(e probe.Event) {
	switch {
	case e.Check != nil:
		if !v.begun[e.Endpoint] {
			v.begun[e.Endpoint] = true
			v.hold(e.Endpoint, v.title(e))
		}
		v.hold(e.Endpoint, v.lines(*e.Check))
	case e.Done:
		v.ended[e.Endpoint] = true
	}
	v.release()
	if e.Doing != "" && v.live && e.Endpoint == v.turn {
		text := []rune("…     " + e.Address + ": " + e.Doing)
		fmt.Fprintf(v.out, "\r  %s\x1b[K", v.paint(dim, string(text[:min(len(text), 76)]))) // a line that wraps cannot be cleared
		v.shown = true
	}
}

func (v *probeView) hold(endpoint int, text string) {
	v.held[endpoint] = append(v.held[endpoint], text)
}

// release writes what may be written by now.
func (v *probeView) release() {
	for {
		for _, text := range v.held[v.turn] {
			v.clear()
			fmt.Fprint(v.out, text)
		}
		delete(v.held, v.turn)
		if !v.ended[v.turn] {
			return
		}
		v.turn++
	}
}

// clear takes away the line that says what is going on.
func (v *probeView) clear() {
	if v.shown {
		fmt.Fprint(v.out, "\r\x1b[K")
		v.shown = false
	}
}

func (v *probeView) title(e probe.Event) string {
	above := "\n"
	if e.Endpoint == 0 {
		above = ""
	}
	text := v.paint(bold, e.Address)
	if e.Mode != "" {
		text += "  " + string(e.Mode)
	}
	return above + text + "\n"
}

// lines are one for what is as it should be, and two for what is not: what was
// found under the id that docs/probe.md explains, and what to do.
func (v *probeView) lines(c probe.Check) string {
	verdict := verdicts[c.Status]
	text := "  " + v.paint(verdict.colour, fmt.Sprintf("%-4s", verdict.word)) + "  "
	if c.Status != probe.OK {
		text += v.paint(bold, c.ID) + ": " + c.Detail + "\n"
		if c.Remedy != "" {
			text += "        do: " + c.Remedy + "\n"
		}
		return text
	}
	text += c.Title
	if c.Detail != "" {
		text += v.paint(dim, ": "+c.Detail)
	}
	return text + "\n"
}

// sum is the end: how many of what, and what to do next.
func (v *probeView) sum(r probe.Report, o probe.Options) {
	v.clear()
	checks, notes := 0, 0
	for _, e := range r.Endpoints {
		checks += len(e.Checks)
		for _, c := range e.Checks {
			if c.Status == probe.Note {
				notes++
			}
		}
	}
	colour := green
	if r.Failures > 0 {
		colour = red
	} else if r.Warnings > 0 {
		colour = yellow
	}
	v.line("\n" + v.paint(colour, fmt.Sprintf("%s, %s: %s, %s, %s", many(len(r.Endpoints), "port"), many(checks, "check"),
		many(r.Failures, "failure"), many(r.Warnings, "warning"), many(notes, "note"))))
	v.line("next: " + nextProbe(r, o))
}

func nextProbe(r probe.Report, o probe.Options) string {
	switch {
	case r.Failures > 0:
		return "do what stands below each FAIL, then run this again"
	case o.Relay == nil:
		return "the same with --relay me@example.com you@example.net   (is it an open relay?)"
	case o.SmuggleTo == "":
		return "the same with --to ADDRESS   (can mail be forged behind another?)"
	}
	return "the same with --json, once a day; exit code 1 is worth a mail"
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
