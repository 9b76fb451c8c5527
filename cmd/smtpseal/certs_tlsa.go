package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"smtpseal/certs"
	"smtpseal/config"
)

func (p program) certsTLSACommand() *cobra.Command {
	var from origin
	var ports []int
	c := &cobra.Command{
		Use:   "tlsa [-c FILE] [NAME …]",
		Short: "Print the TLSA records (DANE) of the keys in use",
		Long: `tlsa prints the TLSA 3 1 1 record (RFC 7672) of every certificate's key, or of
the NAMEs', as lines of a zone file, for each port that is served. They stay
true over renewals, since the key stays; change it with smtpseal certs roll.

Only servers in a zone signed by DNSSEC are believed. Other mail servers look at
_25._tcp alone.`,
		Example: "  smtpseal certs tlsa -c smtpseal.yaml\n  smtpseal certs tlsa mail.example.org --port 25",
		RunE: func(c *cobra.Command, names []string) error {
			if err := checkPorts(c, ports); err != nil {
				return err
			}
			b, err := p.look(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			if len(ports) == 0 {
				ports = publicPorts(b.config.Listeners)
			}
			records, err := b.TLSA(names, ports)
			if err != nil {
				return err
			}
			for _, r := range records {
				fmt.Fprintln(p.stdout, r)
			}
			return nil
		},
	}
	from.flags(c)
	c.Flags().IntSliceVar(&ports, "port", nil, "`PORT`s of the records, in place of those that are served")
	return c
}

func checkPorts(c *cobra.Command, ports []int) error {
	for _, port := range ports {
		if port < 1 || port > 65535 {
			return wrongUsage(c, "--port %d: a port is from 1 to 65535", port)
		}
	}
	return nil
}

// publicPorts are where clients find the listeners: a port from 1024 on is most
// likely one to which another machine forwards the usual one.
func publicPorts(listeners []config.Listener) (ports []int) {
	usual := map[string]int{"implicit": 465, "starttls": 587, "starttls-optional": 25}
	for _, l := range listeners {
		for _, a := range l.Listen {
			port := usual[l.Mode]
			if _, text, err := net.SplitHostPort(a.Addr); err == nil && a.Network == "tcp" {
				if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1024 {
					port = n
				}
			}
			if !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return ports
}

// TLSA returns the records of the names' keys, or of all.
func (b *cabinet) TLSA(names []string, ports []int) (records []certs.TLSARecord, err error) {
	all := b.Certificates()
	for _, name := range names {
		if _, err := b.Served(name); err != nil {
			return nil, err
		}
	}
	for _, one := range all {
		for _, name := range one.Names {
			if one.Leaf == nil || len(names) > 0 && !slices.Contains(names, name) {
				continue
			}
			records = append(records, certs.TLSARecords([]string{name}, ports, one.Leaf)...)
		}
	}
	if len(records) == 0 {
		return nil, errors.New("no certificate with a DNS name yet: see smtpseal certs list")
	}
	return records, nil
}
