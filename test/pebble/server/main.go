// Command server is the test CA as a process of its own, for tests of the real
// binary and for people who try the README without Let's Encrypt:
//
//	go run ./test/pebble/server -http-port 8080 -tls-port 8443
//
// It prints one line of JSON (directory, roots, issuer, dns, eab), and ends
// with SIGINT, SIGTERM, or, when standard input is a pipe, with that. Names are
// resolved by its own DNS server: all of them are 127.0.0.1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"smtpseal/test/pebble"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "pebble:", err)
		os.Exit(1)
	}
}

// facts are what a client of the CA must know.
type facts struct {
	Directory string            `json:"directory"`
	Roots     string            `json:"roots"`  // a PEM file: acme.trusted_roots
	Issuer    string            `json:"issuer"` // a PEM file: who signs the certificates
	HTTP      string            `json:"http"`
	TLS       string            `json:"tls"`
	DNS       string            `json:"dns,omitempty"`
	EAB       map[string]string `json:"eab,omitempty"`
}

func run(ctx context.Context, args []string, in *os.File, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ca, err := pebble.Open(o)
	if err != nil {
		return err
	}
	f := facts{
		Directory: ca.DirectoryURL(), Roots: ca.RootsFile(), Issuer: ca.IssuerFile(),
		HTTP: ca.HTTPAddr(), TLS: ca.TLSAddr(), EAB: o.EAB,
	}
	if ca.DNS != nil {
		f.DNS = ca.DNS.Addr()
	}
	if err := json.NewEncoder(out).Encode(f); err != nil {
		return errors.Join(err, ca.Close())
	}
	wait(ctx, in)
	return ca.Close()
}

func parse(args []string) (o pebble.Options, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&o.Listen, "listen", "", "host:port of the ACME directory (default a free port of 127.0.0.1)")
	flags.IntVar(&o.HTTPPort, "http-port", 0, "where HTTP-01 is validated (default a free port)")
	flags.IntVar(&o.TLSPort, "tls-port", 0, "where TLS-ALPN-01 is validated (default a free port)")
	flags.StringVar(&o.DNS, "dns", "", "host:port of the resolver, over TCP (default its own: every name is 127.0.0.1)")
	flags.DurationVar(&o.Validity, "validity", 90*24*time.Hour, "of certificates")
	flags.IntVar(&o.NonceReject, "nonce-reject", 0, "per cent of good nonces that are refused")
	flags.Func("profile", "NAME=VALIDITY, may be repeated", func(value string) error {
		name, life, _ := strings.Cut(value, "=")
		d, err := time.ParseDuration(life)
		if o.Profiles == nil {
			o.Profiles = map[string]time.Duration{}
		}
		o.Profiles[name] = d
		return err
	})
	flags.Func("eab", "KEY-ID:MAC-KEY (base64url) that new accounts must be bound to, may be repeated", func(value string) error {
		id, key, ok := strings.Cut(value, ":")
		if !ok {
			return errors.New("no colon: write KEY-ID:MAC-KEY")
		}
		if o.EAB == nil {
			o.EAB = map[string]string{}
		}
		o.EAB[id] = key
		return nil
	})
	verbose := flags.Bool("v", false, "Pebble's own log on standard error")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%s: not a flag", flags.Arg(0))
	}
	if *verbose {
		o.Log = os.Stderr
	}
	return o, nil
}

// wait returns when ctx ends, and when a pipe as standard input does: then the
// test that holds its other end is gone, however it ended. A terminal and
// /dev/null, which a shell gives to what it runs in the background, end nothing.
func wait(ctx context.Context, in *os.File) {
	stat, err := in.Stat()
	if err != nil || stat.Mode()&os.ModeCharDevice != 0 {
		<-ctx.Done()
		return
	}
	ended := make(chan struct{})
	go drain(in, ended)
	select {
	case <-ctx.Done():
	case <-ended:
	}
}

// drain is not waited for: a read of standard input cannot be ended, and the
// process ends anyway.
func drain(in io.Reader, ended chan<- struct{}) {
	io.Copy(io.Discard, in)
	close(ended)
}
