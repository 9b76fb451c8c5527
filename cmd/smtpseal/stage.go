package main

import (
	"fmt"
	"io"
	"strings"

	"smtpseal/cmd/smtpseal/demo"
)

// A stage is where the demo is seen: plain text, in colour on a terminal.
type stage struct {
	out    io.Writer
	colour bool
}

func newStage(out io.Writer) stage { return stage{out, colourful(out)} }

// The colours, as in most terminals' own palette.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	cyan  = "36"
)

func (s stage) paint(colour, text string) string {
	if !s.colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s stage) line(text string) { fmt.Fprintln(s.out, text) }
func (s stage) good(text string) { s.line("  " + s.paint(green, "✓ "+text)) }

func (s stage) heading(format string, args ...any) {
	s.line("\n" + s.paint(bold, fmt.Sprintf(format, args...)) + "\n")
}

// dialogue writes one line of a transcript.
func (s stage) dialogue(who demo.Speaker, text string) {
	colour := map[demo.Speaker]string{demo.ClientSays: cyan, demo.ServerSays: "", demo.Note: dim}[who]
	prefix := string(who) + ": "
	if who == demo.Note {
		prefix = "-- "
	}
	s.line("  " + s.paint(colour, prefix+text))
}

// opening says what is about to be seen.
func (s stage) opening(now *setup, settings string) {
	s.line(s.paint(bold, "smtpseal demo") + ": smtpseal in front of a small mail server that knows no TLS.\n")
	s.line("  mail client ── TLS ──▶ smtpseal ── PROXY v2 + plain SMTP ──▶ mail server\n")
	for _, l := range now.settings().Listeners {
		s.line(fmt.Sprintf("  %-12s %-9s %s", l.Name, now.mode(l.Name), l.Net.Addr()))
	}
	s.heading("The whole configuration")
	for line := range strings.Lines(settings) {
		s.line("  " + strings.TrimRight(line, "\n"))
	}
}
