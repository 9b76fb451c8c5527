package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"smtpseal/certs"
)

// A certificateLine is one certificate in the JSON of `certs list`. Times are
// RFC 3339; one that is not known is left out.
type certificateLine struct {
	Names       []string   `json:"names"`
	Source      string     `json:"source"` // acme, internal, or the certificate file
	KeyType     string     `json:"key_type,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	Serial      string     `json:"serial,omitempty"`
	NotBefore   *time.Time `json:"not_before,omitempty"`
	NotAfter    *time.Time `json:"not_after,omitempty"`
	DaysLeft    *int       `json:"days_left,omitempty"`
	NextRenewal *time.Time `json:"next_renewal,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	Problem     string     `json:"problem,omitempty"`
}

func (p program) certsListCommand() *cobra.Command {
	var from origin
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [-c FILE] [--json]",
		Short: "List certificates, how long they last, and what is wrong",
		Long: `list prints every certificate of the configuration: its names, where it comes
from, issuer, serial number, end, next renewal, and why the last attempt to
renew it failed. The exit code is 1 if one is missing, or was not renewed and
is near its end.`,
		Example:           "  smtpseal certs list -c smtpseal.yaml\n  smtpseal certs list --json | jq '.[].not_after'",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := p.openCabinet(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			b.Recall(c.Context())
			lines := []certificateLine{}
			for _, one := range b.Certificates() {
				lines = append(lines, newCertificateLine(one))
			}
			if asJSON {
				err = p.printJSON(lines)
			} else {
				p.printCertificates(lines)
			}
			if err == nil && len(b.Problems()) > 0 {
				err = errSaid
			}
			return err
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return c
}

func newCertificateLine(c certs.Certificate) certificateLine {
	l := certificateLine{
		Names: c.Names, Source: c.Source, KeyType: c.KeyType, Issuer: c.Issuer, Serial: c.Serial,
		NotBefore: known(c.NotBefore), NotAfter: known(c.NotAfter), NextRenewal: known(c.NextRenewal),
		LastError: c.LastError, Problem: c.Problem,
	}
	if l.NotAfter != nil {
		days := int(time.Until(c.NotAfter) / (24 * time.Hour))
		l.DaysLeft = &days
	}
	return l
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func (p program) printCertificates(lines []certificateLine) {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMES\tSOURCE\tISSUER\tSERIAL\tNOT AFTER\tDAYS\tNEXT RENEWAL")
	for _, l := range lines {
		days := "-"
		if l.DaysLeft != nil {
			days = fmt.Sprint(*l.DaysLeft)
		}
		source := l.Source
		if l.KeyType != "" {
			source += " " + l.KeyType
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", strings.Join(l.Names, " "), source, or(l.Issuer), or(l.Serial), day(l.NotAfter), days, day(l.NextRenewal))
	}
	w.Flush()
	for _, l := range lines {
		text := l.Problem
		if text == "" {
			text = l.LastError
		}
		if text != "" {
			fmt.Fprintf(p.stdout, "%s: %s\n", strings.Join(l.Names, " "), text)
		}
	}
}

func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format("2006-01-02 15:04")
}
