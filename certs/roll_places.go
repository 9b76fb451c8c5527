package certs

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Begun reports whether a roll-over is under way. It asks less than State, and
// needs no hosts.
func (r *Roll) Begun(ctx context.Context) (bool, error) {
	var rec rollRecord
	err := r.readRecord(ctx, &rec)
	return rec.Next != "", err
}

// Resume takes over the hosts and ports that the roll-over under way was begun
// with, where the caller has named none: its records stand there. Others than
// those are an error, since nobody has looked for them. With nothing under way
// it changes nothing.
func (r *Roll) Resume(ctx context.Context) error {
	var rec rollRecord
	if err := r.readRecord(ctx, &rec); err != nil {
		if errors.Is(err, errRollDamaged) { // the step after this one tells
			return nil
		}
		return err
	}
	if rec.Next == "" {
		return nil
	}
	if err := resume(&r.Ports, rec.Ports); err != nil {
		return fmt.Errorf("roll %s: it was begun for %w", r.Name, err)
	}
	if err := resume(&r.Hosts, rec.Hosts); err != nil {
		return fmt.Errorf("roll %s: it was begun for %w", r.Name, err)
	}
	return nil
}

func resume[T int | string](given *[]T, begun []T) error {
	switch {
	case len(begun) == 0: // the default, or by a version that did not write it down
	case len(*given) == 0:
		*given = begun
	case !slices.Equal(slices.Sorted(slices.Values(*given)), slices.Sorted(slices.Values(begun))):
		return fmt.Errorf("%v, not %v: name those or none, or abandon it and begin again", begun, *given)
	}
	return nil
}
