package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"smtpseal/config"
	"smtpseal/proxy/backend"
)

// serving is a service at work, which ends with the test, and the file that it
// reads at a reload.
func serving(t *testing.T, load func(file string) (*config.Config, error)) (*service, string) {
	t.Helper()
	file := write(t, "attack.yaml", settings(free(t), "127.0.0.1:1", internalIn(t.TempDir())))
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), c, outside{log: zap.NewNop(), from: source{load: func() (*config.Config, error) { return load(file) }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stop(context.Background()) })
	return s, file
}

// A file on a mount that is gone, or a FIFO in its place, blocks whoever reads
// it, and no context ends that.
func TestAReloadThatHangsKeepsNobodyFromEnding(t *testing.T) {
	reading, hang := make(chan struct{}), make(chan struct{})
	s, _ := serving(t, func(file string) (*config.Config, error) {
		close(reading)
		<-hang
		return config.Load(file)
	})
	done := make(chan struct{})
	go func() { s.reload(context.Background()); close(done) }()
	t.Cleanup(func() { close(hang); <-done })
	<-reading
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	stopped := make(chan struct{})
	go func() { s.stop(ctx); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
}

func TestAReloadOfWhatEndsIsRefusedAndNotCounted(t *testing.T) {
	s, _ := serving(t, config.Load)
	s.askToEnd()
	if got := s.reloadFor(t.Context()); got.Result != "failed" || got.Error != errEnding.Error() {
		t.Errorf("%+v, want a failure: it is ending", got)
	}
	if got := s.reloads.status(); got.OK != 0 || got.Failed != 0 {
		t.Errorf("counted: %+v", got)
	}
}

// The drain holds the setup until the last session has ended; who asks for a
// reload meanwhile must not wait for that.
func TestAReloadDoesNotWaitForADrain(t *testing.T) {
	s, _ := serving(t, config.Load)
	done, err := s.claim(t.Context()) // as stop does
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	result := make(chan error, 1)
	go func() { result <- s.reload(context.Background()) }()
	s.askToEnd()
	select {
	case err := <-result:
		if !errors.Is(err, errEnding) {
			t.Errorf("%v, want %v", err, errEnding)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("waits")
	}
}

// Each of many who ask at once hears what came of its own attempt.
func TestEachReloadAnswersForItself(t *testing.T) {
	const each = 50
	var attempts atomic.Int64
	s, _ := serving(t, func(file string) (*config.Config, error) {
		if n := attempts.Add(1); n%2 == 1 {
			return nil, fmt.Errorf("attempt %d", n)
		}
		return config.Load(file)
	})
	var mu sync.Mutex
	heard := map[string]int{}
	var asking sync.WaitGroup
	for range 2 * each {
		asking.Go(func() {
			got := s.reloadFor(t.Context())
			mu.Lock()
			defer mu.Unlock()
			heard[got.Result+" "+got.Error]++
		})
	}
	asking.Wait()
	if len(heard) != each+1 || heard["ok "] != each {
		t.Errorf("%d good, %d kinds of answers; want %d good, and as many of its own", heard["ok "], len(heard), each)
	}
	if got := s.reloads.status(); got.OK != each || got.Failed != each {
		t.Errorf("counted %+v, want %d of each", got, each)
	}
}

// silentMTA takes connections and says nothing.
func silentMTA(t *testing.T) (addr string, met <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{}, 16)
	var conns []net.Conn
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			taken <- struct{}{}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		accepting.Wait()
		for _, conn := range conns {
			conn.Close()
		}
	})
	return ln.Addr().String(), taken
}

// A configuration whose relay checks were cut short by the end is not put into
// effect: nobody knows whether it may be.
func TestARelayCheckThatWasCutShortLetsNothingIn(t *testing.T) {
	addr, met := silentMTA(t)
	s, file := serving(t, config.Load)
	before := s.now.Load()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`"127.0.0.1:1"`, strconv.Quote(addr), "relay_check: off", "relay_check: refuse").Replace(string(text))
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- s.reload(context.Background()) }()
	<-met
	s.askToEnd()
	if err := <-result; !errors.Is(err, errEnding) {
		t.Errorf("%v, want %v", err, errEnding)
	}
	if s.now.Load() != before {
		t.Error("the new configuration is in effect")
	}
}

// What was asked before a reload says nothing of the servers behind it.
func TestAnOldRelayCheckSpeaksOfNoNewBackend(t *testing.T) {
	var r relays
	old, now := &backend.Backend{Name: "mta"}, &backend.Backend{Name: "mta"}
	life, end := context.WithCancel(t.Context())
	if !r.begin(old) || r.begin(old) {
		t.Fatal("one backend is not asked once at a time")
	}
	end()
	r.forget("mta")
	if !r.begin(now) {
		t.Error("the new backend is not asked while the old one is")
	}
	r.set(life, "mta", "")
	r.end(old)
	r.set(t.Context(), "mta", "relays")
	if got := r.warning("mta"); got != "relays" {
		t.Errorf("%q", got)
	}
}

// A session outlives its listener, and is seen and counted all the same.
func TestSessionsOfARemovedListenerStayCounted(t *testing.T) {
	s, file := serving(t, config.Load)
	from := s.now.Load().sockets.addresses()[0]
	conn, err := net.Dial("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for s.server.Sessions() == 0 {
		runtime.Gosched()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("name: one", "name: other", from, free(t)).Replace(string(text))
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := sessionsOf(s.status()); n != 1 {
		t.Errorf("%d sessions, want the one of the listener that is gone", n)
	}
	conn.Close()
	for s.server.Sessions() > 0 {
		runtime.Gosched()
	}
	var ended int64
	for _, l := range s.status().Listeners {
		if l.Name == "one" && l.Removed {
			for _, n := range l.Ended {
				ended += n
			}
		}
	}
	if ended != 1 {
		t.Errorf("%d ended sessions, want 1", ended)
	}
}

// What a start could do without its file is no help to who reloads.
func TestAReloadWithoutItsFileSaysWhatToDo(t *testing.T) {
	var from origin
	s, file := serving(t, func(file string) (*config.Config, error) {
		from.file = file
		return from.read()
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	got := s.reloadFor(t.Context())
	if want := "configuration " + file + ": there is no such file; put it back, or start smtpseal anew with another"; got.Error != want {
		t.Errorf("%q, want %q", got.Error, want)
	}
}
