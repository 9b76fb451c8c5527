package certs

import (
	"context"

	"go.uber.org/zap"
)

// Tickets are the keys of a process's session tickets. crypto/tls would make
// some for each *tls.Config, and a reload, which makes new ones, would end all
// resumption. With these a listener keeps its keys as long as it has its name and
// its policy, whichever Source makes its configuration; another name, another
// minimum version or other rules for client certificates have other keys. Else
// they live as crypto/tls's do: a new one every day, dead after seven days, and
// nobody sees them outside this process.
type Tickets struct{ *tickets }

// NewTickets makes keys that are good at once. Who makes them owes a Run, or no
// new ones follow and none dies.
func NewTickets() *Tickets { return &Tickets{newTickets(nil, zap.NewNop())} }

// Run keeps the keys fresh until ctx ends.
func (t *Tickets) Run(ctx context.Context) { t.run(ctx) }
