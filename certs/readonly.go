package certs

import (
	"context"
	"errors"

	"github.com/caddyserver/certmagic"
)

// errReadOnly is the answer to all that would change something.
var errReadOnly = errors.New("certificates were opened to be looked at only")

// A readOnly storage holds to what Options.ReadOnly promises, whoever of us or of
// certmagic might try otherwise. It takes no locks either: they are files.
type readOnly struct{ certmagic.Storage }

func (readOnly) Store(context.Context, string, []byte) error { return errReadOnly }
func (readOnly) Delete(context.Context, string) error        { return errReadOnly }
func (readOnly) Lock(context.Context, string) error          { return errReadOnly }
func (readOnly) Unlock(context.Context, string) error        { return errReadOnly }

func (r readOnly) String() string { return where(r.Storage) }
