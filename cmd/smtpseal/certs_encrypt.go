package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/certs/storage"
	"smtpseal/config"
)

func (p program) certsEncryptCommand() *cobra.Command {
	var from origin
	c := &cobra.Command{
		Use:   "encrypt [-c FILE]",
		Short: "Encrypt a storage that was kept plain",
		Long: `encrypt encrypts, once, every value of a storage that was used without
storage.encryption_key, with the key that the configuration has now. Stop every
smtpseal that uses the storage before: with a key they refuse plain values, since
whoever can write to the storage could plant them.

It can be repeated: what is encrypted already stays as it is.`,
		Example:           "  smtpseal certs encrypt -c smtpseal.yaml",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := from.read()
			if err != nil {
				return err
			}
			if err := ownStorage(settings.Storage); err != nil {
				return err
			}
			log, err := newLog(p.stderr, config.Log{Level: "warn", Format: "console"})
			if err != nil {
				return err
			}
			return p.encrypt(c, settings, log)
		},
	}
	from.flags(c)
	return c
}

func (p program) encrypt(c *cobra.Command, settings *config.Config, log *zap.Logger) error {
	if settings.Storage.EncryptionKey.IsZero() {
		return advised{errors.New("the configuration has no storage.encryption_key"), "make one: openssl rand -hex 32"}
	}
	options, err := storageOptions(settings.Storage, log)
	if err != nil {
		return err
	}
	n, err := storage.Seal(c.Context(), options)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%d values encrypted\nnext: start smtpseal again; keep a copy of the key elsewhere\n", n)
	return nil
}
