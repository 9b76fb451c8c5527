// Bench measures what the proxy costs beside two peers on the same work: a
// naive Go proxy of our own (tls.Listen and two io.Copy, no features) and
// HAProxy from the distribution's archive.
//
//	go run ./test/bench                 # all works, five repeats, three peers
//	go run ./test/bench -only idle      # works whose name matches
//	go run ./test/bench -quick          # under a minute: is the harness alive?
//
// One process loads (this one), one plays the mail server for every peer, and
// each peer is a process of its own, fresh for each measurement. What is
// measured is the processor time, or the memory, of the peer's whole process
// tree as the kernel accounts it. A repeat measures every work with every
// peer, one after the other, the first peer changing from repeat to repeat;
// the ratios are taken inside a repeat and the median of them is judged. So a
// neighbour's load on the machine moves the times far more than the ratios.
//
// Everything stays on loopback and in a temporary directory; every process is
// ended by its id, also on an interrupt. The exit code is 1 if the harness
// could not measure, and with -strict also if a target was missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// options are the command line's.
type options struct {
	Repeats int
	Clients int // busy at once
	Peers   []string
	Only    *regexp.Regexp
	Quick   bool
	Strict  bool
	JSON    string
	Binary  string // the proxy under test; empty: built from the working tree
	HAProxy string // empty: from $PATH, else unpacked from the archive
	Logs    io.Writer
}

var errMissed = errors.New("a target was missed")

func main() {
	if len(os.Args) > 1 {
		if role, ok := roles[os.Args[1]]; ok {
			exit(role(os.Args[2:]))
		}
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(bench(ctx, o, os.Stdout))
}

// roles are the processes that this binary starts of itself.
var roles = map[string]func(args []string) error{
	"sink":  sinkMain,
	"naive": naiveMain,
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (options, error) {
	o := options{Logs: os.Stderr}
	var peers string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.Repeats, "repeats", 5, "how often each work is measured with each peer")
	f.IntVar(&o.Clients, "clients", 4, "how many are busy at once, where a work does not say one")
	f.StringVar(&peers, "peers", "naive,haproxy,smtpseal", "who is measured")
	f.StringVar(&o.JSON, "json", "", "write every sample to `FILE`")
	f.BoolVar(&o.Quick, "quick", false, "few operations, one repeat: proves the harness, not the figures")
	f.BoolVar(&o.Strict, "strict", false, "exit 1 if a target is missed")
	f.StringVar(&o.Binary, "smtpseal", "", "measure this `BINARY` instead of building one")
	f.StringVar(&o.HAProxy, "haproxy", "", "measure this `BINARY` instead of the distribution's")
	f.Func("only", "measure only works whose name matches `REGEXP`", func(s string) (err error) {
		o.Only, err = regexp.Compile(s)
		return err
	})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.Peers = strings.Split(peers, ",")
	if o.Quick {
		o.Repeats = 1
	}
	if o.Repeats < 1 || o.Clients < 1 || f.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: at least one repeat and one client, and no arguments beside flags")
		return o, flag.ErrHelp
	}
	return o, nil
}

// bench is the whole run: it measures, prints the table and writes the JSON.
func bench(ctx context.Context, o options, out io.Writer) error {
	b, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	result := &result{Conditions: conditions(b), Repeats: o.Repeats}
	result.Conditions.write(out)
	began, busy := time.Now(), b.othersTime()
	if err := b.measure(ctx, o, result); err != nil {
		return err
	}
	took := time.Since(began)
	result.Seconds = took.Seconds()
	// The kernel samples the whole and clocks the parts: a little below 0 is 0.
	result.Others = max(0, (b.othersTime()-busy).Seconds()/took.Seconds()/float64(result.Conditions.Cores))
	result.table(out)
	if o.JSON != "" {
		if err := result.writeJSON(o.JSON); err != nil {
			return err
		}
	}
	if o.Strict && result.missed() {
		return errMissed
	}
	return nil
}
