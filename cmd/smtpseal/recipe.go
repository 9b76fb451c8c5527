package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"smtpseal/cmd/smtpseal/recipe"
	"smtpseal/config"
)

// A cook knows what the command line says about a recipe.
type cook struct {
	origin
	chosen  bool // the file was named
	backend string
	from    string
	asJSON  bool
}

func (p program) recipeCommand() *cobra.Command {
	var k cook
	c := &cobra.Command{
		Use:     "recipe NAME [-c FILE] [--backend NAME] [--from ADDRESS] [--json]",
		Short:   "Print the mail server's side of a configuration",
		GroupID: "serve",
		Long: `recipe prints what to write where at the mail server, so that it matches a
configuration: address and port, the PROXY header, and whom it must not trust.
NAME is one of ` + alternatives(recipe.Names()) + `.

All that is not configuration is a comment of that server's, so that the whole
can be pasted. Without a file it is for the example of the README.`,
		Example:           "  smtpseal recipe postfix -c smtpseal.yaml >> /etc/postfix/master.cf\n  smtpseal recipe exim --json | jq -r '.files[].path'",
		Args:              recipeName,
		ValidArgsFunction: cobra.FixedCompletions(recipe.Names(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(c *cobra.Command, args []string) error {
			k.chosen = c.Flags().Changed("config")
			if k.file == "" {
				return wrongUsage(c, "-c needs the name of a file")
			}
			r, err := k.recipe(c.Context(), args[0])
			if err != nil {
				return err
			}
			if k.asJSON {
				return p.printJSON(r)
			}
			_, err = fmt.Fprint(p.stdout, r.Text())
			return err
		},
	}
	k.flags(c)
	c.Flags().StringVar(&k.backend, "backend", "", "`NAME` of the backend, if the file has several for this server")
	c.Flags().StringVar(&k.from, "from", "", "`ADDRESS` from which smtpseal connects to the server; default: what this machine would take")
	c.Flags().BoolVar(&k.asJSON, "json", false, "print a JSON object with files, steps and warnings")
	return c
}

func recipeName(c *cobra.Command, args []string) error {
	if err := oneArgument("a mail server: "+alternatives(recipe.Names()))(c, args); err != nil {
		return err
	}
	if !slices.Contains(recipe.Names(), args[0]) {
		return wrongUsage(c, "no recipe for %q; there are %s", args[0], alternatives(recipe.Names()))
	}
	return nil
}

// alternatives joins words as a sentence does.
func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

func (k *cook) recipe(ctx context.Context, name string) (*recipe.Recipe, error) {
	c, f, err := k.settings(name)
	if err != nil {
		return nil, err
	}
	b, err := pick(c, k.backend, name)
	if err != nil {
		return nil, err
	}
	if f.About == "" {
		f.About = fmt.Sprintf("smtpseal recipe %s, for the backend %s of %s", name, b.Name, f.Config)
	}
	f.Hostname = nameOf(c)
	f.Internal = internalCA(c, f.Hostname)
	f.Backend, f.Preset, f.ProxyProtocol, f.ProxyTLVs = b.Name, b.Preset, b.ProxyProtocol, b.ProxyTLVs
	f.Listeners = listenersOf(c, b.Name)
	if f.Servers, err = serversOf(b); err != nil {
		return nil, err
	}
	if f.Source, err = k.source(ctx, b.Servers[0].Addr, f.Servers[0]); err != nil {
		return nil, err
	}
	r, err := recipe.Make(name, f)
	var wrong *recipe.Error
	if errors.As(err, &wrong) {
		return nil, advised{err, wrong.Remedy}
	}
	return r, err
}

// settings are the file's, or, if none was named and there is none where run
// would look, those of the README.
func (k *cook) settings(name string) (*config.Config, recipe.Facts, error) {
	file := k.file
	if strings.ContainsFunc(file, unicode.IsControl) {
		file = strconv.Quote(file) // it must not break out of a comment
	}
	if _, err := os.Stat(k.file); errors.Is(err, fs.ErrNotExist) && !k.chosen {
		c, err := config.Parse("README.md", []byte(strings.Replace(readmeExample, "postfix", name, 1)))
		return c, recipe.Facts{About: fmt.Sprintf("smtpseal recipe %s, for the README's example, since there is no %s (-c FILE names yours)", name, file)}, err
	}
	c, err := k.read()
	return c, recipe.Facts{Config: file}, err
}

// readmeExample is the configuration that the README begins with.
const readmeExample = `listeners:
  - {listen: ":465", tls: implicit, backend: mta}
  - {listen: ":587", tls: starttls, backend: mta}
backends:
  mta:
    preset: postfix
    servers: ["127.0.0.1:10025"]
certificates:
  - names: [mail.example.org]        # by ACME from Let's Encrypt, whose terms you agree to
`

// pick chooses the backend: the one that was named, the one whose preset the
// recipe is for, or the only one.
func pick(c *config.Config, name, recipeName string) (config.Backend, error) {
	var names, fitting []string
	byName := make(map[string]config.Backend)
	for _, b := range c.Backends {
		byName[b.Name] = b
		names = append(names, b.Name)
		if b.Preset != "plain" && recipe.Fits(recipeName, b.Preset) {
			fitting = append(fitting, b.Name)
		}
	}
	switch b, ok := byName[name]; {
	case ok:
		return b, nil
	case name != "":
		return b, advised{fmt.Errorf("there is no backend %s", name), "--backend " + strings.Join(names, ", or --backend ")}
	case len(fitting) == 1:
		return byName[fitting[0]], nil
	case len(names) == 1:
		return c.Backends[0], nil
	case len(fitting) > 1:
		names = fitting
	}
	return config.Backend{}, advised{fmt.Errorf("which backend is the recipe for?"), "--backend " + strings.Join(names, ", or --backend ")}
}
