package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// A ledger is one zone at a vendor that keeps one record a value, as most do,
// and not one RRset a name. It is open for one name and for one change.
type ledger interface {
	list(context.Context) ([]entry, error)          // the TXT records of the name
	create(ctx context.Context, value string) error // errThere if it is there already
	erase(context.Context, entry) error             // errGone if it is not there any more
	publish(context.Context) error                  // where changes do not count until then
}

// An entry is one record, its text as the vendor writes it.
type entry struct{ id, text string }

var (
	errThere = errors.New("record is already there")
	errGone  = errors.New("record is gone")
)

// separate makes a service of ledgers.
type separate struct {
	open func(context.Context, change) (ledger, error)
}

func (s separate) add(ctx context.Context, wanted change) error {
	book, there, err := s.read(ctx, wanted)
	if err != nil {
		return err
	}
	for _, value := range wanted.values {
		if slices.ContainsFunc(there, func(e entry) bool { return unquote(e.text) == value }) {
			continue
		}
		if err := book.create(ctx, value); err != nil && !errors.Is(err, errThere) {
			return fmt.Errorf("add %s: %w", wanted.fqdn, err)
		}
	}
	return s.publish(ctx, book, wanted)
}

func (s separate) remove(ctx context.Context, unwanted change) error {
	book, there, err := s.read(ctx, unwanted)
	if err != nil {
		return err
	}
	for _, e := range there {
		if !slices.Contains(unwanted.values, unquote(e.text)) {
			continue
		}
		if err := book.erase(ctx, e); err != nil && !errors.Is(err, errGone) {
			return fmt.Errorf("remove %s: %w", unwanted.fqdn, err)
		}
	}
	return s.publish(ctx, book, unwanted)
}

func (s separate) read(ctx context.Context, at change) (ledger, []entry, error) {
	book, err := s.open(ctx, at)
	if err != nil {
		return nil, nil, fmt.Errorf("find zone %s: %w", at.zone, err)
	}
	there, err := book.list(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list records of %s in zone %s: %w", at.fqdn, at.zone, err)
	}
	return book, there, nil
}

// publish also when nothing was to be done: the time before may have got as
// far as the change and not to here.
func (s separate) publish(ctx context.Context, book ledger, c change) error {
	if err := book.publish(ctx); err != nil {
		return fmt.Errorf("publish zone %s: %w", c.zone, err)
	}
	return nil
}

// absent tells whether a vendor has answered that something is not there.
func absent(err error) bool {
	refused, ok := errors.AsType[*refusal](err)
	return ok && refused.status == http.StatusNotFound
}
