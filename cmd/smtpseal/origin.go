package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"smtpseal/config"
)

const defaultFile = "/etc/smtpseal/smtpseal.yaml"

// An origin is where a configuration comes from: a file or, for run alone and
// when file is empty, a few flags.
type origin struct {
	file string

	domain, backend, proxyProtocol string
	email                          string // for ACME alone
}

func (o *origin) flags(c *cobra.Command) {
	c.Flags().StringVarP(&o.file, "config", "c", defaultFile, "configuration `FILE`")
}

// quickFlags are those that replace a file.
func (o *origin) quickFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.domain, "domain", "", "serve `NAME` without a configuration file, with a certificate from Let's Encrypt, whose terms this agrees to; for localhost one from the internal CA")
	c.Flags().StringVar(&o.backend, "backend", "", "`HOST:PORT` of the mail server, with --domain")
	c.Flags().StringVar(&o.email, "email", "", "`ADDRESS` at which the certificate authority can reach you, with --domain")
	c.Flags().StringVar(&o.proxyProtocol, "proxy-protocol", "", "`VERSION` of the PROXY header for the mail server, with --domain: off (if left out), v1 or v2; the server must expect the same")
	c.RegisterFlagCompletionFunc("proxy-protocol", cobra.FixedCompletions([]string{"off", "v1", "v2"}, cobra.ShellCompDirectiveNoFileComp))
}

// check refuses a mixture of the two, since one of them would be ignored. What
// follows it relies on file being empty only if the flags are to be used.
func (o *origin) check(c *cobra.Command) error {
	var quick []string
	c.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains([]string{"domain", "backend", "email", "proxy-protocol"}, f.Name) {
			quick = append(quick, "--"+f.Name)
		}
	})
	switch {
	case len(quick) == 0 && o.file == "":
		return wrongUsage(c, "-c needs the name of a file")
	case len(quick) == 0:
		return nil
	case c.Flags().Changed("config"):
		return wrongUsage(c, "-c cannot be mixed with %s: write it into the file", strings.Join(quick, ", "))
	case !c.Flags().Changed("domain"):
		return wrongUsage(c, "%s needs --domain NAME", strings.Join(quick, ", "))
	case !c.Flags().Changed("backend"):
		return wrongUsage(c, "--domain needs --backend HOST:PORT")
	}
	o.file = ""
	return nil
}

// load reads the configuration of a command line. Its error has everything that
// is wrong.
func (o *origin) load(of *cobra.Command) (*config.Config, error) {
	if err := o.check(of); err != nil {
		return nil, err
	}
	if o.file == "" {
		return config.Quick(o.domain, o.backend, o.proxyProtocol, o.email)
	}
	return o.read()
}

// read reads the file.
func (o *origin) read() (*config.Config, error) {
	c, err := config.Load(o.file)
	if _, missing := os.Stat(o.file); err != nil && errors.Is(missing, fs.ErrNotExist) {
		return nil, advised{fmt.Errorf("configuration %s: there is no such file", o.file), withoutFile}
	}
	return c, err
}

const withoutFile = `one of these will do:
    smtpseal run -c FILE                                 with another file; config.example.yaml shows every key
    smtpseal run --domain NAME --backend HOST:PORT       without any file; localhost for NAME to try it
    smtpseal demo                                        to see it work first`
