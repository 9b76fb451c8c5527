package main

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"smtpseal/config"
)

// An upgrade that came to nothing is seen by whoever looks at the process, and
// not only in its log.
func TestAFailedUpgradeIsInTheStatus(t *testing.T) {
	s, _ := serving(t, config.Load)
	core, logs := observer.New(zap.ErrorLevel)
	s.log = zap.New(core)
	s.upgrader.OS.Program = func() (string, []string, error) { return "", nil, errors.New("the file is gone") }
	if got := s.status().Upgrade; got.Failed != 0 || !got.Last.Time.IsZero() {
		t.Errorf("before: %+v", got)
	}
	for n := range int64(2) {
		s.handOver(t.Context())
		got := s.status()
		if got.Upgrade.Failed != n+1 || !strings.Contains(got.Upgrade.Last.Error, "the file is gone") || got.Upgrade.Last.Time.Before(got.Started) {
			t.Errorf("after %d: %+v", n+1, got.Upgrade)
		}
	}
	if lines := logs.FilterField(zap.String("hint", upgradeHint)).All(); len(lines) != 2 {
		t.Errorf("the log says %v", logs.All())
	}
}
