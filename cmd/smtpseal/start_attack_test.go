package main

import (
	"context"
	"os"
	"testing"
	"time"

	"smtpseal/config"
)

// A start may take long, as when backends are asked whether they relay. Whoever
// changes the file meanwhile, and says so, must be heard.
func TestAReloadAskedForInAStartIsMadeBehindIt(t *testing.T) {
	reading := make(chan struct{})
	s, _ := serving(t, func(file string) (*config.Config, error) {
		close(reading)
		return config.Load(file)
	})
	signals := make(chan os.Signal) // without room: what is sent was taken
	if _, err := startUnlessStopped(t.Context(), signals, func(context.Context) (*service, error) {
		signals <- reloadSignal
		return s, nil
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reading:
	case <-time.After(20 * time.Second):
		t.Fatal("the file is not read again")
	}
}
