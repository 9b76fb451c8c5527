package main

import (
	"fmt"
	"io"
)

// A progress shows how long work goes on: on a terminal in one line that
// changes, else in a line for each change.
type progress struct {
	to       io.Writer
	terminal bool
	last     string
}

func newProgress(to io.Writer) *progress { return &progress{to: to, terminal: isTerminal(to)} }

func (p *progress) show(text string) {
	if text == p.last {
		return
	}
	p.last = text
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(p.to, text)
}

// end makes way for what comes behind it.
func (p *progress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	p.last = ""
}
