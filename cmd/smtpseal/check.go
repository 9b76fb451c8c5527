package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"smtpseal/config"
)

func (p program) checkCommand() *cobra.Command {
	var from origin
	var asJSON bool
	c := &cobra.Command{
		Use:     "check [-c FILE] [--json]",
		Short:   "Say all that is wrong with a configuration",
		GroupID: "serve",
		Long: `check reads a configuration as run would, certificates included, but opens no
port and makes nothing. It reads the files and secrets that are named, too, so
run it as the user that runs smtpseal. It prints every mistake at once, each on
a line with file, line, key and what to write instead, and warnings after them.`,
		Example:           "  smtpseal check -c smtpseal.yaml",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := from.check(c); err != nil {
				return err
			}
			v, err := from.verdict(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = p.printJSON(v)
			} else {
				p.printVerdict(v)
			}
			if err == nil && !v.Good {
				err = errSaid
			}
			return err
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// A verdict is the answer of check. Lists are never null in JSON.
type verdict struct {
	File     string          `json:"file"`
	Good     bool            `json:"good"`
	Mistakes config.Mistakes `json:"mistakes"`
	Warnings []string        `json:"warnings"`
}

// verdict looks for mistakes in the file first, and only in a good one at what it
// names. An error means that there was nothing to judge.
func (o *origin) verdict(ctx context.Context) (verdict, error) {
	v := verdict{File: o.file, Mistakes: config.Mistakes{}, Warnings: []string{}}
	c, err := config.Load(o.file)
	var mistakes config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		v.Mistakes = mistakes
		return v, nil
	case err != nil:
		return v, err
	}
	v.Warnings = append(v.Warnings, c.Warnings()...)
	j := judge{file: o.file}
	j.certificates(ctx, c)
	j.secrets(c)
	j.storage(c)
	j.programs(c)
	slices.SortStableFunc(j.mistakes, func(a, b config.Mistake) int { return cmp.Compare(a.Line, b.Line) })
	v.Mistakes, v.Warnings = append(v.Mistakes, j.mistakes...), append(v.Warnings, j.warnings...)
	v.Good = len(v.Mistakes) == 0
	return v, nil
}

// printVerdict writes what is wrong to standard error, and that nothing is to
// standard output.
func (p program) printVerdict(v verdict) {
	for _, m := range v.Mistakes {
		fmt.Fprintln(p.stderr, m)
	}
	for _, w := range v.Warnings {
		fmt.Fprintf(p.stderr, "%s: warning: %s\n", v.File, w)
	}
	if v.Good {
		fmt.Fprintf(p.stdout, "%s: good\nnext: smtpseal run -c %s\n", v.File, v.File)
	}
}
