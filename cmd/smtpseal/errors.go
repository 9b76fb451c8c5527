package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"smtpseal/config"
)

// A usageError is a command line that cannot be understood: exit code 2.
type usageError struct{ command, problem string }

func (e usageError) Error() string { return e.problem }

func wrongUsage(c *cobra.Command, format string, args ...any) error {
	return usageError{command: c.CommandPath(), problem: fmt.Sprintf(format, args...)}
}

// noArguments refuses every argument.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongUsage(c, "%s takes no argument, but got %q", c.Name(), args[0])
	}
	return nil
}

// oneArgument asks for exactly one argument, called what it is in the usage.
func oneArgument(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return wrongUsage(c, "%s needs %s", c.Name(), what)
		case len(args) > 1:
			return wrongUsage(c, "%s takes one argument, but got also %q", c.Name(), args[1])
		}
		return nil
	}
}

// errSaid is a failure that the command itself has told the user about.
var errSaid = errors.New("said already")

// An advised error comes with what to do about it: one or more whole lines.
type advised struct {
	error
	remedy string
}

func (e advised) Unwrap() error { return e.error }

// complain writes what went wrong, and then what to do. Several errors that
// share a remedy are told it once, after the last of them.
// Mistakes in a configuration bring place and remedy with them, a line each.
func complain(w io.Writer, err error) {
	if errors.Is(err, errSaid) {
		return
	}
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		fmt.Fprintln(w, mistakes.Error())
		return
	}
	var remedies []string
	for _, one := range flatten(err) {
		fmt.Fprintf(w, "smtpseal: %v\n", one)
		var a advised
		if errors.As(one, &a) && !slices.Contains(remedies, a.remedy) {
			remedies = append(remedies, a.remedy)
		}
	}
	for _, remedy := range remedies {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(remedy, "\n", "\n  "))
	}
}

// flatten takes joined errors apart, each to be said on a line of its own.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
