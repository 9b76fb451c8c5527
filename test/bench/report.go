package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// subject is the peer that the targets are for.
const subject = "smtpseal"

// A result is all that a run found out.
type result struct {
	Conditions machine
	Repeats    int
	Peers      []string
	Rows       []*outcome
	Seconds    float64
	Others     float64 // share of the machine that other processes used meanwhile
}

// An outcome is one row's samples: for each peer that does the work one a
// repeat, in the order of the repeats.
type outcome struct {
	row
	Samples  map[string][]float64
	Paces    map[string][]float64 `json:",omitempty"` // operations a second, where it is about operations
	Verdicts []verdict            `json:",omitempty"`
}

// A verdict is one target against what was measured.
type verdict struct {
	Beside string // naive, haproxy, or itself
	Value  float64
	Target string
	Passed bool
}

func (r *result) expect(rows []row) {
	for _, w := range rows {
		r.Rows = append(r.Rows, &outcome{row: w, Samples: map[string][]float64{}, Paces: map[string][]float64{}})
	}
}

// add takes one repeat's figures, in the order of rows, and the pace they
// were measured at, 0 if that is no figure of them.
func (r *result) add(rows []row, peer string, figures []float64, pace float64) {
	for n, w := range rows {
		o := r.outcome(w.Name)
		o.Samples[peer] = append(o.Samples[peer], figures[n])
		if n == 0 && pace > 0 {
			o.Paces[peer] = append(o.Paces[peer], pace)
		}
	}
}

func (r *result) outcome(name string) *outcome {
	n := slices.IndexFunc(r.Rows, func(o *outcome) bool { return o.Name == name })
	return r.Rows[n] // expect has made it
}

// judge fills in the verdicts; without the subject there are none.
func (r *result) judge() {
	for _, o := range r.Rows {
		o.Verdicts = nil
		if len(o.Samples[subject]) == 0 {
			continue
		}
		own := median(o.Samples[subject])
		o.most("naive", o.beside(subject, "naive"), o.BesideNaive)
		o.most("haproxy", o.beside(subject, "haproxy"), o.BesideHAProxy)
		o.most("itself", own, o.AtMost)
		if o.AtLeast != 0 {
			o.Verdicts = append(o.Verdicts, verdict{"itself", own, "≥ " + number(o.AtLeast), own >= o.AtLeast})
		}
	}
}

func (o *outcome) most(beside string, value, target float64) {
	if target == 0 || value == 0 && beside != "itself" {
		return // no target, or that peer was not there
	}
	o.Verdicts = append(o.Verdicts, verdict{beside, value, "≤ " + ratio(target), value <= target})
}

// beside is the median of the ratios of two peers' samples, each within one
// repeat; 0 if one of them has none.
func (o *outcome) beside(peer, other string) float64 {
	a, b := o.Samples[peer], o.Samples[other]
	var ratios []float64
	for n := range min(len(a), len(b)) {
		ratios = append(ratios, a[n]/b[n])
	}
	return median(ratios)
}

func (r *result) missed() bool {
	for _, o := range r.Rows {
		if slices.ContainsFunc(o.Verdicts, func(v verdict) bool { return !v.Passed }) {
			return true
		}
	}
	return false
}

// table writes a row each: every peer's median, least and most, its ratio to
// HAProxy, and the targets. It is Markdown, to be kept as it is.
func (r *result) table(w io.Writer) {
	r.judge()
	besides := []string{"naive", "haproxy", "itself"}
	head := append([]string{"work", "unit"}, r.Peers...)
	judged := slices.Contains(r.Peers, subject)
	if judged {
		head = append(head, "beside naive", "beside HAProxy", "itself")
	}
	lines := [][]string{head}
	for _, o := range r.Rows {
		line := []string{o.Name, o.Unit}
		for _, p := range r.Peers {
			line = append(line, o.cell(p))
		}
		for _, beside := range besides {
			if judged {
				line = append(line, o.verdict(beside))
			}
		}
		lines = append(lines, line)
	}
	fmt.Fprintf(w, "\nMedian (least–most) of %d; × is the ratio to HAProxy in the same repeat. %.0f s, meanwhile\nother processes used %.0f %% of the machine.\n\n",
		r.Repeats, r.Seconds, 100*r.Others)
	writeMarkdown(w, lines)
}

func (o *outcome) cell(peer string) string {
	s := o.Samples[peer]
	if len(s) == 0 {
		return "–"
	}
	cell := fmt.Sprintf("%s (%s–%s)", number(median(s)), number(slices.Min(s)), number(slices.Max(s)))
	if times := o.beside(peer, "haproxy"); times != 0 && peer != "haproxy" {
		cell += " ×" + ratio(times)
	}
	return cell
}

func (o *outcome) verdict(beside string) string {
	for _, v := range o.Verdicts {
		if v.Beside == beside {
			word := "MISS"
			if v.Passed {
				word = "PASS"
			}
			return fmt.Sprintf("%s %s %s", ratio(v.Value), v.Target, word)
		}
	}
	return ""
}

// number has three significant digits, all of them where there are more
// before the point.
func number(f float64) string {
	switch {
	case f >= 100 || f <= -100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10 || f <= -10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return ratio(f)
}

func ratio(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// writeMarkdown pads the columns, so that the text is readable as it stands.
func writeMarkdown(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for n, cell := range line {
			widths[n] = max(widths[n], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range lines {
		for column, cell := range line {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(" ", widths[column]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", width+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

func (r *result) writeJSON(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("json: %w", err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}
