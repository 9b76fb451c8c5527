package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p program) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a directory",
		GroupID: "about",
		Long: `man writes smtpseal.8, and a page for each command, into a directory that is
made if need be. They say what --help says.`,
		Example: "  smtpseal man /usr/local/share/man/man8",
		Args:    oneArgument("a directory to write into"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return writePages(c.Root(), args[0])
		},
	}
}

// writePages writes the page of c and those of the commands below it.
func writePages(c *cobra.Command, dir string) error {
	file := filepath.Join(dir, pageName(c)+".8")
	if err := os.WriteFile(file, []byte(manPage(c)), 0o644); err != nil {
		return err
	}
	for _, child := range c.Commands() {
		if child.Hidden {
			continue
		}
		if err := writePages(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// pageName is git's way: smtpseal-run for smtpseal run.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage writes a command in man(7). The date is left out, so that the same
// source makes the same page.
func manPage(c *cobra.Command) string {
	hideHelp(c)
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 8 \"\" \"%s\" \"smtpseal manual\"\n",
		roff(strings.ToUpper(pageName(c))), roff("smtpseal "+read().Version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(c)), roff(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	for _, use := range usages(c) {
		fmt.Fprintf(&b, ".B %s\n.br\n", roff(use))
	}
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n", paragraphs(description(c)))
	b.WriteString(commandList(c))
	b.WriteString(flagList(c.NonInheritedFlags()))
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	b.WriteString(manTail(c))
	return b.String()
}

func commandList(c *cobra.Command) string {
	if !c.HasAvailableSubCommands() {
		return ""
	}
	var b strings.Builder
	b.WriteString(".SH COMMANDS\n")
	for _, child := range c.Commands() {
		if !child.Hidden {
			fmt.Fprintf(&b, ".TP\n.BR %s (8)\n%s\n", roff(pageName(child)), roff(child.Short))
		}
	}
	return b.String()
}

func flagList(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if b.Len() == 0 {
			b.WriteString(".SH OPTIONS\n")
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		value, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roff(name))
		if value != "" {
			fmt.Fprintf(&b, " \\fI%s\\fR", roff(value))
		}
		if f.DefValue != "" && f.DefValue != "false" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(&b, "\n%s\n", roff(usage))
	})
	return b.String()
}

func manTail(c *cobra.Command) string {
	tail := `.SH EXIT STATUS
.TP
.B 0
Good.
.TP
.B 1
Failed, or a bad configuration.
.TP
.B 2
Wrong usage: an unknown command or flag, a missing or an extra argument.
`
	if c.HasParent() {
		return tail + ".SH SEE ALSO\n.BR " + roff(pageName(c.Root())) + " (8)\n"
	}
	return tail + ".SH FILES\n.TP\n.I " + roff(defaultFile) + "\nThe configuration, unless \\fB\\-c\\fR names another.\n"
}

// paragraphs sets text that is wrapped in the source; an empty line parts.
func paragraphs(text string) string {
	return strings.ReplaceAll(roff(strings.TrimSpace(text)), "\n\n", "\n.PP\n")
}

// roff escapes what man(7) would take for its own: backslashes, hyphens that
// must stay plain ones when copied, and a dot or a quote at the start of a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
