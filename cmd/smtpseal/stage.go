package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"smtpseal/cmd/smtpseal/demo"
	"smtpseal/proxy"
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
	if !s.colour || text == "" {
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
func (s stage) opening(open []bound, settings string) {
	s.line(s.paint(bold, "smtpseal demo") + ": smtpseal in front of a small mail server that knows no TLS.\n")
	s.line("  mail client ── TLS ──▶ smtpseal ── PROXY v2 + plain SMTP ──▶ mail server\n")
	for _, b := range open {
		s.line(fmt.Sprintf("  %-12s %-9s %s", b.Name, b.Mode, b.net.Addr()))
	}
	s.heading("The whole configuration")
	for line := range strings.Lines(settings) {
		s.line("  " + strings.TrimRight(line, "\n"))
	}
}

// commands are for the user to paste into another terminal. The certificate is
// for localhost, whatever address is listened on.
func (d *demonstration) commands() []string {
	root, mail := d.file("root.pem"), d.file("message.eml")
	_, implicit, _ := net.SplitHostPort(d.service.open[0].net.Addr().String())
	_, starttls, _ := net.SplitHostPort(d.service.open[1].net.Addr().String())
	envelope := "--mail-from you@example.org --mail-rcpt postmaster@example.org --upload-file " + mail
	return []string{
		"  curl --cacert " + root + " smtps://localhost:" + implicit + " " + envelope,
		"  curl --cacert " + root + " --ssl-reqd smtp://localhost:" + starttls + " " + envelope,
		"",
		"  openssl s_client -crlf -quiet -verify_return_error -CAfile " + root + " -connect localhost:" + implicit,
		"  openssl s_client -crlf -quiet -verify_return_error -CAfile " + root + " -starttls smtp -connect localhost:" + starttls,
		"",
		"  swaks --to postmaster@example.org --server localhost:" + implicit + " --tlsc --tls-verify --tls-ca-path " + root,
		"  swaks --to postmaster@example.org --server localhost:" + starttls + " --tls --tls-verify --tls-ca-path " + root,
	}
}

// A gate holds the log back, so that it does not run into a dialogue, until it
// is opened. What it holds is bounded by what two sessions log.
type gate struct {
	to     io.Writer
	mu     sync.Mutex
	isOpen bool
	held   []byte
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		return g.to.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isOpen = true
	g.to.Write(g.held)
	g.held = nil
}

// sessionsEnded is an observer that tells how many sessions are over; it never
// blocks one.
type sessionsEnded chan struct{}

func (e sessionsEnded) SessionEnded(*proxy.Record) {
	select {
	case e <- struct{}{}:
	default:
	}
}

// wait returns when n sessions are over, or do not seem to end.
func (e sessionsEnded) wait(ctx context.Context, n int) {
	for range n {
		select {
		case <-e:
		case <-ctx.Done():
			return
		}
	}
}

// untilStopped is a context that ends with the first request to stop.
func untilStopped(signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for {
			select {
			case signal := <-signals:
				if signal != reloadSignal {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}
