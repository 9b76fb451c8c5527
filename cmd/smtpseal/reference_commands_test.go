package main

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"smtpseal/test/docs"
)

// Command lines in the documentation are what the commands themselves take.
func TestShownCommandsAreTaken(t *testing.T) {
	seen := 0
	for _, page := range docs.Pages(t, "../..") {
		for _, c := range page.Commands() {
			seen++
			if err := take(c.Args, true); err != nil {
				t.Errorf("%s:%d: smtpseal %s: %v", c.Page, c.Line, strings.Join(c.Args, " "), err)
			}
		}
		for _, c := range mentioned(page) {
			seen++
			if err := take(c.Args, false); err != nil {
				t.Errorf("%s:%d: smtpseal %s: %v", c.Page, c.Line, strings.Join(c.Args, " "), err)
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d command lines are too few to be all", seen)
	}
}

// mentioned are the commands in a text, which may leave out arguments: of
// [-c FILE] and a|b every part must be right.
func mentioned(page docs.Page) (all []docs.Command) {
	alternatives := regexp.MustCompile(`[a-z]+(\\?\|[a-z]+)+`)
	for _, code := range page.Code() {
		line, ours := strings.CutPrefix(strings.TrimPrefix(code.Text, "bin/"), "smtpseal ")
		if !ours || strings.ToUpper(line[:1]) == line[:1] {
			continue // a name such as COMMAND stands for all
		}
		lines := []string{line}
		if choice := alternatives.FindString(line); choice != "" {
			lines = nil
			for word := range strings.SplitSeq(choice, "|") {
				lines = append(lines, strings.Replace(line, choice, strings.TrimRight(word, `\`), 1))
			}
		}
		for _, line := range lines {
			args := strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(line))
			all = append(all, docs.Command{Page: code.Page, Line: code.Line, Args: args})
		}
	}
	return all
}

// take parses arguments as the program would, and does not run them.
func take(args []string, whole bool) error {
	root := program{stdout: io.Discard, stderr: io.Discard}.root()
	root.SetArgs(args)
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	c.InitDefaultHelpFlag()
	var noValue *pflag.ValueRequiredError // in a text the name of a flag may stand alone
	if err := c.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) && (whole || !errors.As(err, &noValue)) {
		return err
	}
	left := slices.DeleteFunc(c.Flags().Args(), func(arg string) bool { return arg == "…" }) // ARG … is any number
	if c.HasSubCommands() && len(left) > 0 {
		return unknownCommand(c, left)
	}
	if whole && !slices.Contains(rest, "--help") {
		return c.ValidateArgs(left)
	}
	return nil
}
