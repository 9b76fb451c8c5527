package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/certs"
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
port and makes nothing. It prints every mistake at once, each on a line with
file, line, key and what to write instead, and warnings after them.`,
		Example:           "  smtpseal check -c smtpseal.yaml",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := from.check(c); err != nil {
				return err
			}
			v, err := from.judge(c.Context())
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

// judge looks for mistakes in the file first, and only in a good one at the
// certificates it names. An error means that there was nothing to judge.
func (o *origin) judge(ctx context.Context) (verdict, error) {
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
	mistakes, warnings := certificateMistakes(ctx, o.file, c)
	v.Mistakes = append(v.Mistakes, mistakes...)
	v.Mistakes = append(v.Mistakes, secretMistakes(o.file, c)...)
	v.Warnings = append(v.Warnings, warnings...)
	v.Good = len(v.Mistakes) == 0
	return v, nil
}

// certificateMistakes loads what the configuration names, as run would, each
// file for itself so that one bad one does not hide the next. The internal CA
// and ACME are left alone: theirs would be made.
func certificateMistakes(ctx context.Context, file string, c *config.Config) (mistakes config.Mistakes, warnings []string) {
	heard := newCollector()
	log := zap.New(heard)
	wrong := func(list string, item int, err error) {
		mistakes = append(mistakes, config.Mistake{
			File: file, Line: place(file, list, item), Path: fmt.Sprintf("%s[%d]", list, item),
			Problem: err.Error(), Remedy: "mend it, for run would not start",
		})
	}
	for i, one := range c.Certificates {
		if one.Internal || one.ByACME() {
			continue
		}
		source, err := certs.Open(ctx, certs.Options{Entries: []certs.Entry{entry(one)}, Log: log})
		if err != nil {
			wrong("certificates", i, err)
			continue
		}
		source.Close()
	}
	var none certs.Source // policies need no certificate
	for i, l := range c.Listeners {
		if _, err := none.TLSConfig(policy(c.TLS, l)); err != nil {
			wrong("listeners", i, err)
		}
	}
	slices.SortStableFunc(mistakes, func(a, b config.Mistake) int { return cmp.Compare(a.Line, b.Line) })
	return mistakes, *heard.said
}

// secretMistakes resolves every secret, and reads what acme names. Nobody is
// asked anything.
func secretMistakes(file string, c *config.Config) (mistakes config.Mistakes) {
	wrong := func(section string, errs ...error) {
		for _, err := range errs {
			var told config.Mistakes
			switch {
			case err == nil:
			case errors.As(err, &told):
				for _, m := range told {
					m.File = file
					mistakes = append(mistakes, m)
				}
			default:
				mistakes = append(mistakes, config.Mistake{File: file, Path: section, Problem: err.Error(), Remedy: "mend it, for run would not start"})
			}
		}
	}
	var secret string
	wrong("storage", resolve(c.Storage.URL, &secret), resolve(c.Storage.EncryptionKey, &secret))
	if c.ByACME() {
		a, err := acmeOptions(c.ACME, zap.NewNop())
		if err == nil {
			err = a.Check()
		}
		wrong("acme", err)
	}
	return mistakes
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
