package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"smtpseal/certs"
)

func (p program) certsExportCommand() *cobra.Command {
	var from origin
	var root bool
	var keyFile string
	c := &cobra.Command{
		Use:   "export [-c FILE] NAME [--key FILE] | export [-c FILE] --root",
		Short: "Write a certificate as PEM",
		Long: `export writes the certificate that clients get for NAME to standard output, leaf
first, and with --key its private key to a file that only this user may read.
With --root it writes the root of the internal CA, which clients must trust.`,
		Example: `  smtpseal certs export mail.example.org > mail.pem
  smtpseal certs export mail.example.org --key mail.key > mail.pem
  smtpseal certs export --root > root.pem`,
		RunE: func(c *cobra.Command, names []string) error {
			switch {
			case root && len(names)+len(keyFile) > 0:
				return wrongUsage(c, "--root stands alone")
			case !root && len(names) != 1:
				return wrongUsage(c, "export needs one name, or --root")
			}
			b, err := p.openCabinet(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			if root {
				text, err := b.RootPEM()
				if err != nil {
					return err
				}
				_, err = p.stdout.Write(text)
				return err
			}
			return p.export(b, names[0], keyFile)
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&root, "root", false, "the root of the internal CA")
	c.Flags().StringVar(&keyFile, "key", "", "write the private key to `FILE`, too, which must not exist")
	return c
}

func (p program) export(b *cabinet, name, keyFile string) error {
	served, err := b.Served(name)
	if err != nil {
		return err
	}
	chain, key, err := certs.EncodePEM(served)
	if err != nil {
		return err
	}
	if keyFile != "" {
		if err := writeNew(keyFile, key); err != nil {
			return fmt.Errorf("write the private key: %w", err)
		}
	}
	_, err = p.stdout.Write(chain)
	return err
}

// writeNew writes a file that was not there before: whoever made it might read
// what is put into it.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
