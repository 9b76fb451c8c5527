package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/storage"
	"smtpseal/config"
)

// The certs commands work on the files and the storage that a configuration
// names. They need no running process; one that runs on the same storage takes
// up what they have changed within half a minute.

func (p program) certsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "certs COMMAND",
		Short:   "Look at certificates, renew, export and announce them",
		GroupID: "serve",
		Long: `certs works on the certificates of a configuration: the files that it names, and
the storage where those by ACME and of the internal CA are kept. It needs no
running smtpseal; one that runs on the same storage, on this machine or another,
takes up a change within 30 seconds.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage(c, "no command given; try: smtpseal certs list")
			}
			return wrongUsage(c, "unknown command %q", args[0])
		},
	}
	c.AddGroup(&cobra.Group{ID: "certs", Title: "Commands:"})
	for _, child := range []*cobra.Command{p.certsListCommand(), p.certsRenewCommand(), p.certsExportCommand(),
		p.certsTLSACommand(), p.certsRollCommand(), p.certsEncryptCommand()} {
		child.GroupID = "certs"
		c.AddCommand(child)
	}
	return c
}

// A cabinet is the certificates of a configuration, opened but not kept fresh.
type cabinet struct {
	*certs.Source
	config *config.Config
	store  storage.Store
}

// openCabinet reads the file and opens what it names, to change it. Who opens a
// cabinet closes it.
func (p program) openCabinet(ctx context.Context, from origin) (*cabinet, error) {
	c, err := from.read()
	if err == nil {
		err = ownStorage(c.Storage)
	}
	if err != nil {
		return nil, err
	}
	return p.open(ctx, c, false)
}

// look opens a cabinet of which nothing can be changed. Nothing is made, and what
// is wrong with one certificate hides no other.
func (p program) look(ctx context.Context, from origin) (*cabinet, error) {
	c, err := from.read()
	if err != nil {
		return nil, err
	}
	return p.open(ctx, c, true)
}

func (p program) open(ctx context.Context, c *config.Config, readOnly bool) (_ *cabinet, err error) {
	b := &cabinet{config: c}
	log, err := newLog(p.stderr, config.Log{Level: "warn", Format: "console"})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err := b.openStore(ctx, log, readOnly); err != nil {
		return nil, err
	}
	options, err := certOptions(c, b.store, log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel)))
	if err != nil {
		return nil, err
	}
	options.OnEvent = certs.Hook{} // the caller sees what happens
	options.ReadOnly = readOnly
	if b.Source, err = certs.Open(ctx, options); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return b, nil
}

func (b *cabinet) openStore(ctx context.Context, log *zap.Logger, readOnly bool) error {
	if !keepsCertificates(b.config) {
		return nil
	}
	options, err := storageOptions(b.config.Storage, log)
	if err != nil {
		return err
	}
	options.ReadOnly = readOnly
	store, err := storage.Open(ctx, options)
	if err == nil {
		b.store = store
	}
	return err
}

// ownStorage refuses to let root write into the directory of another user: the
// service could not read what root leaves there, and would have no certificate
// after its next start.
func ownStorage(c config.Storage) error {
	owner, others := othersDirectory(c.Path)
	if c.Type != "file" || !others {
		return nil
	}
	return advised{fmt.Errorf("storage %s belongs to %s, who could not read what root writes there", c.Path, owner),
		"run it as that user: sudo -u " + owner + " smtpseal certs …"}
}

func (b *cabinet) close() {
	if b.Source != nil {
		b.Source.Close()
	}
	if b.store != nil {
		b.store.Close()
	}
}
