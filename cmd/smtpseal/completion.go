package main

import (
	"io"

	"github.com/spf13/cobra"
)

// shells are those for which cobra can write a completion script.
var shells = map[string]func(*cobra.Command, io.Writer) error{
	"bash":       func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
	"zsh":        func(c *cobra.Command, w io.Writer) error { return c.GenZshCompletion(w) },
	"fish":       func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
	"powershell": func(c *cobra.Command, w io.Writer) error { return c.GenPowerShellCompletionWithDesc(w) },
}

func (p program) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "completion bash|zsh|fish|powershell",
		Short:   "Write a completion script for a shell",
		GroupID: "about",
		Long:    "completion writes a script that completes commands and flags to standard output.",
		Example: `  source <(smtpseal completion bash)
  smtpseal completion zsh > "${fpath[1]}/_smtpseal"
  smtpseal completion fish > ~/.config/fish/completions/smtpseal.fish
  smtpseal completion powershell | Out-String | Invoke-Expression`,
		Args:      oneArgument("a shell: bash, zsh, fish or powershell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			write, ok := shells[args[0]]
			if !ok {
				return wrongUsage(c, "unknown shell %q; there are bash, zsh, fish and powershell", args[0])
			}
			return write(c.Root(), p.stdout)
		},
	}
}
