package main

import (
	"strings"
	"testing"
)

// sampled is a result of two rows, three peers and three repeats, of which
// the second was twice as slow for all: ratios must not notice.
func sampled() *result {
	r := &result{Repeats: 3, Peers: []string{"naive", "haproxy", "smtpseal"}, Seconds: 1, Others: 0.031}
	rows := []row{
		{Name: "handshake", Unit: "µs", BesideNaive: 1.05, BesideHAProxy: 0.80},
		{Name: "extra", Unit: "ms", AtMost: 2},
	}
	r.expect(rows)
	for _, slow := range []float64{1, 2, 1.1} {
		r.add(rows, "naive", []float64{600 * slow, 0.5}, 0)
		r.add(rows, "haproxy", []float64{800 * slow, 1.5}, 0)
		r.add(rows, "smtpseal", []float64{560 * slow, 3}, 0)
	}
	return r
}

func TestTable(t *testing.T) {
	const golden = `
Median (least–most) of 3; × is the ratio to HAProxy in the same repeat. 1 s, meanwhile
other processes used 3 % of the machine.

| work      | unit | naive                  | haproxy          | smtpseal               | beside naive     | beside HAProxy   | itself           |
|-----------|------|------------------------|------------------|------------------------|------------------|------------------|------------------|
| handshake | µs   | 660 (600–1200) ×0.75   | 880 (800–1600)   | 616 (560–1120) ×0.70   | 0.93 ≤ 1.05 PASS | 0.70 ≤ 0.80 PASS |                  |
| extra     | ms   | 0.50 (0.50–0.50) ×0.33 | 1.50 (1.50–1.50) | 3.00 (3.00–3.00) ×2.00 |                  |                  | 3.00 ≤ 2.00 MISS |
`
	var out strings.Builder
	sampled().table(&out)
	if out.String() != golden {
		t.Errorf("got\n%s\nwant\n%s", out.String(), golden)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name   string
		row    row
		naive  []float64
		own    []float64
		passed []bool
	}{
		{"at the target", row{BesideNaive: 0.5}, []float64{2}, []float64{1}, []bool{true}},
		{"beyond it", row{BesideNaive: 0.5}, []float64{2}, []float64{1.01}, []bool{false}},
		{"one bad repeat of three", row{BesideNaive: 1}, []float64{1, 1, 1}, []float64{1, 9, 1}, []bool{true}},
		{"no such peer", row{BesideHAProxy: 1}, nil, []float64{1}, nil},
		{"not the subject", row{BesideNaive: 1}, []float64{1}, nil, nil},
		{"at least", row{AtLeast: 100}, nil, []float64{99.9}, []bool{false}},
		{"two targets", row{BesideNaive: 1, AtMost: 2}, []float64{3}, []float64{3}, []bool{true, false}},
	} {
		r := &result{Rows: []*outcome{{row: c.row, Samples: map[string][]float64{"naive": c.naive, subject: c.own}}}}
		r.judge()
		var passed []bool
		missed := false
		for _, v := range r.Rows[0].Verdicts {
			passed = append(passed, v.Passed)
			missed = missed || !v.Passed
		}
		if len(passed) != len(c.passed) || r.missed() != missed {
			t.Errorf("%s: verdicts %v, missed %v; want %v", c.name, passed, r.missed(), c.passed)
			continue
		}
		for n := range passed {
			if passed[n] != c.passed[n] {
				t.Errorf("%s: verdicts %v, want %v", c.name, passed, c.passed)
			}
		}
	}
}

func TestNumbersKeepThreeDigits(t *testing.T) {
	for f, want := range map[float64]string{1234.5: "1234", 99.96: "100.0", 12.34: "12.3", 1.234: "1.23", -0.5: "-0.50", 0: "0.00"} {
		if got := number(f); got != want {
			t.Errorf("number(%v) is %q, want %q", f, got, want)
		}
	}
}
