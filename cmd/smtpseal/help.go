package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// helpCommand replaces cobra's own, which takes an unknown topic for success.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command",
		GroupID: "about",
		RunE: func(c *cobra.Command, args []string) error {
			topic, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return wrongUsage(c, "no help for %q", strings.Join(args, " "))
			}
			return topic.Help()
		},
	}
}

// explain writes what --help answers: what the command does, then how to call
// it. The most used facts come first, so that they stay on the screen's top.
func explain(c *cobra.Command, _ []string) {
	w := c.OutOrStdout()
	fmt.Fprintln(w, description(c))
	fmt.Fprintln(w)
	for i, use := range usages(c) {
		fmt.Fprintf(w, "%-6s %s\n", [...]string{"Usage:", ""}[min(i, 1)], use)
	}
	for _, g := range c.Groups() {
		explainGroup(w, c, g)
	}
	hideHelp(c)
	if flags := c.LocalFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(w, "\nFlags:\n%s", flags)
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasSubCommands() {
		fmt.Fprintln(w, "\nMore on a command: "+c.CommandPath()+" COMMAND --help")
	}
}

// hideHelp leaves --help out of the list of flags: whoever reads it has found it.
func hideHelp(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Hidden = true
	c.Flags().SortFlags = false
}

func explainGroup(w io.Writer, c *cobra.Command, g *cobra.Group) {
	fmt.Fprintf(w, "\n%s\n", g.Title)
	for _, child := range c.Commands() {
		if child.GroupID == g.ID {
			fmt.Fprintf(w, "  %-12s %s\n", child.Name(), child.Short)
		}
	}
}

func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

// usages are the ways to call a command, each with the whole path to it.
func usages(c *cobra.Command) []string {
	all := strings.Split(c.Use, " | ")
	for i, use := range all {
		if c.HasParent() {
			all[i] = c.Parent().CommandPath() + " " + use
		}
	}
	return all
}
