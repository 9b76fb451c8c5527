package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"smtpseal/certs"
)

func (p program) certsExportCommand() *cobra.Command {
	var from origin
	var root bool
	var keyFile, keyType string
	c := &cobra.Command{
		Use:   "export [-c FILE] NAME [--key FILE] [--key-type TYPE] | export [-c FILE] --root",
		Short: "Write a certificate as PEM",
		Long: `export writes the certificate that clients get for NAME to standard output, leaf
first, and with --key its private key to a file that only this user may read.
Of several types of key it takes the first one, or that of --key-type.

With --root it writes the root of the internal CA, which clients must trust, and
makes it if there is none yet.`,
		Example: `  smtpseal certs export mail.example.org > mail.pem
  smtpseal certs export mail.example.org --key mail.key > mail.pem
  smtpseal certs export mail.example.org --key-type rsa2048 > rsa.pem
  smtpseal certs export --root > root.pem`,
		RunE: func(c *cobra.Command, names []string) error {
			switch {
			case root && len(names)+len(keyFile)+len(keyType) > 0:
				return wrongUsage(c, "--root stands alone")
			case root:
				return p.exportRoot(c.Context(), from)
			case len(names) != 1:
				return wrongUsage(c, "export needs one name, or --root")
			}
			b, err := p.look(c.Context(), from)
			if err != nil {
				return err
			}
			defer b.close()
			served, err := b.ServedWith(names[0], keyType)
			if err != nil {
				return b.whyNot(names[0], err)
			}
			return p.export(served, keyFile)
		},
	}
	from.flags(c)
	c.Flags().BoolVar(&root, "root", false, "the root of the internal CA")
	c.Flags().StringVar(&keyFile, "key", "", "write the private key to `FILE`, too, which must not exist")
	c.Flags().StringVar(&keyType, "key-type", "", "`TYPE` of the key, where the name has several: p256, p384, rsa2048, rsa4096")
	return c
}

func (p program) exportRoot(ctx context.Context, from origin) error {
	b, err := p.openCabinet(ctx, from)
	if err != nil {
		return err
	}
	defer b.close()
	text, err := b.RootPEM()
	if err == nil {
		_, err = p.stdout.Write(text)
	}
	return err
}

// whyNot says more of a name that has no certificate than that, if more is known.
func (b *cabinet) whyNot(name string, err error) error {
	for _, one := range b.Certificates() {
		if one.Leaf == nil && one.Problem != "" && (one.Name == "" || strings.EqualFold(one.Name, name)) {
			return fmt.Errorf("%w: %s", err, one.Problem)
		}
	}
	return err
}

func (p program) export(served *tls.Certificate, keyFile string) error {
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
