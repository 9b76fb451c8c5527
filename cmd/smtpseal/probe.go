package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"smtpseal/probe"
)

// maxProbed is how many targets one command looks at.
const maxProbed = 32

func (p program) probeCommand() *cobra.Command {
	var f probeFlags
	c := &cobra.Command{
		Use:     "probe HOST[:PORT] … [--relay FROM TO]",
		Short:   "Look at a mail server as its clients do, and say what is wrong",
		GroupID: "about",
		Long: `probe acts as a mail client on the Internet. It looks at ports, greeting, STARTTLS,
AUTH, certificate, TLS versions, what leaks, what can be injected, and at the
DNS records that speak of the server, and says of each check how it went, what
that means, and what to do.

HOST alone is looked at on 465, 587 and 25, and a mail domain stands for the
host that its MX records prefer. The exit code is 1 if anything fails; warnings
and notes change nothing. No mail is delivered, except that with --to a server
that can be made to take one message for two delivers a test message.`,
		Example: `  smtpseal probe mail.example.org
  smtpseal probe mail.example.org:587 --json
  smtpseal probe mail.example.org --relay me@example.com you@example.net
  smtpseal probe mail.example.org:25 --to postmaster@example.org
  smtpseal probe 127.0.0.1:1587 --mode starttls --server-name localhost --ca root.crt`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			options, err := f.options(c, args)
			if err != nil {
				return err
			}
			return p.probe(options, f.json)
		},
	}
	f.add(c)
	return c
}

// probeFlags are what the command line says.
type probeFlags struct {
	mode, ca, serverName, domain, resolver, relay, to string

	timeout time.Duration
	json    bool
}

func (f *probeFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.relay, "relay", "", "also ask whether mail `FROM TO`, two addresses of other domains, would be relayed; stops before DATA")
	flags.StringVar(&f.to, "to", "", "also try smuggling sequences on `ADDRESS`, who agrees to get a test message if one works")
	flags.StringVar(&f.mode, "mode", "", "`MODE` of the port: implicit, starttls or starttls-optional; default: by port, or by what the server does")
	flags.StringVar(&f.serverName, "server-name", "", "`NAME` to expect in TLS, certificate and TLSA record, in place of HOST")
	flags.StringVar(&f.domain, "domain", "", "mail `DOMAIN` for MX and MTA-STS; default: found by MX records")
	flags.StringVar(&f.ca, "ca", "", "PEM `FILE` with the CA to trust, in place of the system's")
	flags.StringVar(&f.resolver, "resolver", "", "`ADDRESS` of the DNS server to ask; one that verifies DNSSEC can tell about TLSA")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for each answer")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(probeModes, cobra.ShellCompDirectiveNoFileComp))
}

var probeModes = []string{string(probe.Implicit), string(probe.StartTLS), string(probe.Opportunistic)}

// options reads flags and arguments. --relay takes the word behind it; the
// recipient is the one argument with an @, which no host has.
func (f *probeFlags) options(c *cobra.Command, args []string) (o probe.Options, err error) {
	o = probe.Options{Domain: f.domain, ServerName: f.serverName, Resolver: f.resolver, SmuggleTo: f.to, Timeout: f.timeout}
	hosts, addresses := split(args)
	switch {
	case c.Flags().Changed("relay") && len(addresses) == 1:
		o.Relay = &probe.Envelope{From: f.relay, To: addresses[0]}
	case c.Flags().Changed("relay"):
		return o, wrongUsage(c, "--relay needs two addresses: --relay FROM TO")
	case len(addresses) > 0:
		return o, wrongUsage(c, "%q is no host; addresses belong to --relay FROM TO", addresses[0])
	}
	if len(hosts) == 0 {
		return o, wrongUsage(c, "probe needs a host: smtpseal probe mail.example.org")
	}
	if len(hosts) > maxProbed {
		return o, wrongUsage(c, "%d hosts are too many at once; %d is the most", len(hosts), maxProbed)
	}
	if f.mode != "" && !slices.Contains(probeModes, f.mode) {
		return o, wrongUsage(c, "--mode %q is unknown; there are %s", f.mode, strings.Join(probeModes, ", "))
	}
	if f.timeout < 100*time.Millisecond || f.timeout > 5*time.Minute {
		return o, wrongUsage(c, "--timeout %s is out of reason; 100ms to 5m", f.timeout)
	}
	for _, host := range hosts {
		target, ok := parseTarget(host)
		if !ok {
			return o, wrongUsage(c, "%q is no HOST or HOST:PORT", host)
		}
		if f.mode != "" && target.Port == "" {
			return o, wrongUsage(c, "--mode needs a port: %s:PORT", host)
		}
		target.Mode = probe.Mode(f.mode)
		o.Targets = append(o.Targets, target)
	}
	for _, address := range append(envelope(o.Relay), o.SmuggleTo) {
		if !sendable(address) {
			return o, wrongUsage(c, "%q is no email address", address)
		}
	}
	o.Roots, err = readRoots(f.ca)
	return o, err
}

func split(args []string) (hosts, addresses []string) {
	for _, arg := range args {
		if strings.Contains(arg, "@") {
			addresses = append(addresses, arg)
		} else {
			hosts = append(hosts, arg)
		}
	}
	return hosts, addresses
}

// parseTarget knows HOST, HOST:PORT, and IPv6 addresses with and without port.
func parseTarget(text string) (t probe.Target, ok bool) {
	t.Host = strings.TrimSuffix(text, ".")
	if net.ParseIP(text) == nil && strings.Contains(text, ":") {
		var err error
		if t.Host, t.Port, err = net.SplitHostPort(text); err != nil {
			return t, false
		}
		if n, err := strconv.ParseUint(t.Port, 10, 16); err != nil || n == 0 {
			return t, false
		}
	}
	strange := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:%", r))
	}
	return t, t.Host != "" && len(t.Host) <= 253 && !strings.HasPrefix(t.Host, "-") && strings.IndexFunc(t.Host, strange) < 0
}

func envelope(e *probe.Envelope) []string {
	if e == nil {
		return nil
	}
	return []string{e.From, e.To}
}

// sendable: nothing that would be more than an address in a command. The empty
// one, also as <>, is the sender of bounces.
func sendable(address string) bool {
	return len(address) <= 254 && !strings.ContainsFunc(strings.Trim(address, "<>"), func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r == '<' || r == '>'
	})
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, advised{fmt.Errorf("--ca: %s has no certificate", file), "give a file with -----BEGIN CERTIFICATE-----"}
	}
	return roots, nil
}

// probe looks, and says what it sees.
func (p program) probe(options probe.Options, asJSON bool) error {
	signals, release := p.signals()
	defer release()
	ctx, stop := untilStopped(signals)
	defer stop()
	view := newProbeView(p.stdout)
	tell := view.tell
	if asJSON {
		tell = nil
	}
	report := probe.Run(ctx, options, tell)
	if ctx.Err() != nil {
		view.clear()
		return errors.New("interrupted before the end")
	}
	if asJSON {
		if err := p.printJSON(report); err != nil {
			return err
		}
	} else {
		view.sum(report, options)
	}
	if report.Failures > 0 {
		return errSaid
	}
	return nil
}
