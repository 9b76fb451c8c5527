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
	LastTry     *time.Time `json:"last_try,omitempty"` // of LastError
	NextTry     *time.Time `json:"next_try,omitempty"`
	Problem     string     `json:"problem,omitempty"`
	Roll        *rollLine  `json:"roll,omitempty"`
}

func (p program) certsListCommand() *cobra.Command {
	var from origin
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [-c FILE] [--json]",
		Short: "List certificates, how long they last, and what is wrong",
		Long: `list prints every certificate of the configuration: its names, where it comes
from, issuer, serial number, end, next renewal, why and when the last attempt to
renew it failed, and whether its key is being changed. It makes nothing. The exit
code is 1 if one is missing or wrong, or was not renewed and is near its end.`,
		Example:           "  smtpseal certs list -c smtpseal.yaml\n  smtpseal certs list --json | jq '.[].not_after'",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			b, err := p.look(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			b.Recall(c.Context())
			lines := []certificateLine{}
			rolls := b.rolls(c.Context())
			for _, one := range b.Certificates() {
				line := newCertificateLine(one)
				if one.Name != "" && rolls {
					line.Roll = b.rollLine(c.Context(), one)
				}
				lines = append(lines, line)
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
		LastError: c.LastError, LastTry: known(c.LastTry), NextTry: known(c.NextTry), Problem: c.Problem,
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
		who := l.Source
		if len(l.Names) > 0 {
			who = strings.Join(l.Names, " ")
		}
		if text := l.trouble(); text != "" {
			fmt.Fprintf(p.stdout, "%s: %s\n", who, text)
		}
		if l.Roll != nil {
			fmt.Fprintf(p.stdout, "%s: its key is being changed: %s\n", who, l.Roll.Waiting)
		}
	}
}

// trouble is what is wrong, and when that was met. A problem has the error in it.
func (l certificateLine) trouble() string {
	text := l.Problem
	if text == "" {
		text = l.LastError
	}
	var times []string
	if l.LastTry != nil {
		times = append(times, "tried "+day(l.LastTry))
	}
	if l.NextTry != nil {
		times = append(times, "next try "+day(l.NextTry))
	}
	if text != "" && len(times) > 0 {
		text += " (" + strings.Join(times, ", ") + " UTC)"
	}
	return text
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
