package main

import "github.com/spf13/cobra"

func (p program) configCommand() *cobra.Command {
	var from origin
	c := &cobra.Command{
		Use:               "config [-c FILE]",
		Short:             "Print the configuration with every default filled in",
		GroupID:           "serve",
		Long:              "config prints the configuration that run would use, as a file that run can read.",
		Example:           "  smtpseal config -c smtpseal.yaml",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := from.load(c)
			if err != nil {
				return err
			}
			text, err := settings.YAML()
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
	from.flags(c)
	return c
}
