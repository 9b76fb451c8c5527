// Command smtpseal stands in front of a mail server that speaks only plain
// SMTP, and gives it modern TLS.
//
// This package is the only place where the configuration meets the rest: each
// command is one file, wire.go turns settings into certificates, listeners and
// a server, and nothing here knows SMTP. Exit codes are 0 for good, 1 for
// failed or a bad configuration, and 2 for wrong usage. What goes wrong is
// said on standard error: what it is, and then what to do.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// A program is what the commands may touch of the world outside, so that a
// test can run one in process.
type program struct {
	stdout, stderr io.Writer
	// signals begins to collect requests to stop or to reload; the returned
	// function gives the signals back to the operating system.
	signals func() (<-chan os.Signal, func())
}

func main() {
	p := program{stdout: os.Stdout, stderr: os.Stderr, signals: notify}
	os.Exit(p.execute(os.Args[1:]))
}

// execute runs one command line and returns the exit code.
func (p program) execute(args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.Execute()
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "smtpseal: %s\n  see: %s --help\n", usage.problem, usage.command)
		return 2
	}
	complain(p.stderr, err)
	return 1
}

func (p program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "smtpseal COMMAND",
		Short: "Gives a mail server that speaks only plain SMTP modern TLS",
		Long: `smtpseal stands in front of a mail server that speaks only plain SMTP. It ends
TLS on 465 and STARTTLS on 587 and 25, tells the server the client's true
address in a PROXY header, and passes every message on byte for byte, or not at
all.`,
		Version:           read().Version,
		Args:              cobra.ArbitraryArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              unknownCommand,

		SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("smtpseal {{.Version}}\n")
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return wrongUsage(c, "%v", err) })
	root.AddGroup(
		&cobra.Group{ID: "start", Title: "Start here:"},
		&cobra.Group{ID: "serve", Title: "Serve mail:"},
		&cobra.Group{ID: "about", Title: "Around it:"},
	)
	root.SetHelpFunc(explain)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(p.demoCommand(), p.runCommand(), p.checkCommand(), p.configCommand(), p.recipeCommand(),
		p.statusCommand(), p.reloadCommand(), p.drainCommand(), p.certsCommand(), p.probeCommand(), p.versionCommand(), p.completionCommand(), p.manCommand())
	return root
}

// unknownCommand is what the root does by itself: nothing but to say so.
func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUsage(c, "no command given; try: smtpseal demo")
	}
	problem := fmt.Sprintf("unknown command %q", args[0])
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		problem += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return wrongUsage(c, "%s", problem)
}
