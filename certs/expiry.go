package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const day = 24 * time.Hour

const renewRemedy = "renew it, or find out why its renewal fails"

// better says whether next may replace current, and if not, why not and what
// to do.
//
// Older means older by both dates: a stale backup, a roll-back by mistake. A
// later end with an earlier start is a certificate that was bought long ago,
// an earlier end with a later start one from a CA with shorter terms; both are
// changes that somebody wants.
func better(next, current *x509.Certificate, now time.Time) error {
	usable := !now.After(current.NotAfter)
	switch {
	case usable && now.After(next.NotAfter):
		return errExpired(next)
	case usable && now.Before(next.NotBefore) && !now.Before(current.NotBefore):
		return fmt.Errorf("certificate on disk is valid from %s on: it will be taken then, if the clock of this machine is right", date(next.NotBefore))
	case !next.NotBefore.After(current.NotBefore) && !next.NotAfter.After(current.NotAfter) &&
		!(next.NotBefore.Equal(current.NotBefore) && next.NotAfter.Equal(current.NotAfter)):
		return errors.New("certificate on disk is older than the one in use: put the newer one there, or restart to use it all the same")
	}
	return nil
}

func errExpired(c *x509.Certificate) error {
	return fmt.Errorf("certificate on disk expired on %s: renew it", date(c.NotAfter))
}

// marks are the times before the end at which the operator hears of it.
var marks = [...]time.Duration{21 * day, 14 * day, 7 * day, 3 * day}

// An expiry says once at each mark, and once at the end, that a certificate
// was not renewed.
type expiry struct {
	leaf *x509.Certificate
	told int // how many of the steps have been said

	// renewed: somebody replaces this certificate regularly. Then a mark in
	// the first two thirds of its life says nothing, for nobody renews that
	// early: a week's certificate would give the alarm from its first hour.
	renewed bool
}

// look reports whether there was something to say.
func (e *expiry) look(leaf *x509.Certificate, log *zap.Logger) bool {
	if e.leaf != leaf {
		e.leaf, e.told = leaf, 0
	}
	left := time.Until(leaf.NotAfter)
	step := e.step(left)
	if step <= e.told {
		return false
	}
	e.told = step
	fields := []zap.Field{zap.Strings("names", leafNames(leaf)), zap.Time("not_after", leaf.NotAfter),
		zap.String("remedy", renewRemedy)}
	if left < 0 {
		log.Error("certificate has expired", fields...)
		return true
	}
	log.Warn("certificate expires soon", append(fields, zap.Int("days_left", int((left+day/2)/day)))...)
	return true
}

func (e *expiry) step(left time.Duration) int {
	if left < 0 {
		return len(marks) + 1
	}
	step := 0
	for i, mark := range marks {
		if e.renewed && mark > e.leaf.NotAfter.Sub(e.leaf.NotBefore)/3 {
			continue
		}
		if left <= mark {
			step = i + 1
		}
	}
	return step
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
