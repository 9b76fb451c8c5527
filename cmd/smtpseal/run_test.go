package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	stdlog "log"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/storage"
	"smtpseal/cmd/smtpseal/demo"
	"smtpseal/test/talk"
)

// A running is smtpseal run in process, and signals to it.
type running struct {
	log     *tape
	signals chan os.Signal
	code    chan int
	port    string // of its listener, TLS from the first byte
	storage string
}

// runBehind runs with a listener on a free port and an internal certificate
// for localhost.
func runBehind(t *testing.T, backend string, more ...string) *running {
	t.Helper()
	r := &running{log: new(tape), signals: make(chan os.Signal, 4), code: make(chan int, 1),
		port: free(t), storage: t.TempDir()}
	file := write(t, "run.yaml", settings(r.port, backend, append(more, internalIn(r.storage))...))
	p := program{stdout: r.log, stderr: r.log, signals: func() (<-chan os.Signal, func()) { return r.signals, func() {} }}
	go func() { r.code <- p.execute([]string{"run", "-c", file}) }()
	t.Cleanup(func() {
		select {
		case r.signals <- syscall.SIGTERM:
		default:
		}
		select {
		case r.signals <- syscall.SIGTERM:
		default:
		}
	})
	r.log.await(t, `"message":"ready"`)
	return r
}

func (r *running) exit(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		r.code <- code
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end:\n%s", r.log)
		return 0
	}
}

// client is one that trusts the internal CA.
func (r *running) client(t *testing.T) *demo.Client {
	t.Helper()
	store, err := storage.Open(t.Context(), storage.Options{Type: "file", Path: r.storage})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	source, err := certs.Open(t.Context(), certs.Options{
		Entries: []certs.Entry{{Internal: true, Names: []string{"localhost"}}}, Storage: store})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	root, err := source.RootPEM()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return &demo.Client{ServerName: "localhost", Roots: roots, Write: func(demo.Speaker, string) {}}
}

// startMTA runs a mail server until the test ends; what it takes comes out of
// the channel.
func startMTA(t *testing.T) (addr string, taken chan demo.Message) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken = make(chan demo.Message, 16)
	mta := demo.MTA{Name: "mta.example", Deliver: func(m demo.Message) { taken <- m }}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { mta.Serve(ctx, ln) })
	t.Cleanup(func() { cancel(); serving.Wait() })
	return ln.Addr().String(), taken
}

func TestRunCarriesMailAndEndsOnTERM(t *testing.T) {
	backend, taken := startMTA(t)
	r := runBehind(t, backend)
	r.log.await(t, `"message":"ready","hostname":"localhost","addresses":["`+r.port+`"]`)
	mail := demoMail("465", time.Now())
	if err := r.client(t).SendTLS(t.Context(), r.port, mail); err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	if got := <-taken; !bytes.Equal(got.Text, mail.Text) {
		t.Errorf("arrived %q, sent %q", got.Text, mail.Text)
	}
	r.log.await(t, "session closed", `"outcome":"completed"`, `"messages":1`)
	r.signals <- syscall.SIGTERM
	if code := r.exit(t); code != 0 {
		t.Errorf("exit %d:\n%s", code, r.log)
	}
	r.log.await(t, `"message":"draining","pid":`, `,"sessions":0,"at_most":60`)
	r.log.await(t, `"message":"stopped"`, `"sessions":1,"messages":1`)
	if conn, err := net.Dial("tcp", r.port); err == nil {
		conn.Close()
		t.Error("still listens")
	}
}

// silent is a backend that greets and then says nothing more, so that a session
// can be held in the middle of a command.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			conn.Write([]byte("220 silent.example ESMTP\r\n"))
		}
	}()
	return ln.Addr().String()
}

// dialTLS connects without looking at the certificate, which other tests do.
func dialTLS(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// hold opens a session that waits for the reply to its EHLO.
func (r *running) hold(t *testing.T) {
	t.Helper()
	conn := dialTLS(t, r.port)
	talk.With(t, conn).Play("< 220\n> EHLO client.example\n")
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	r := runBehind(t, silent(t))
	r.hold(t)
	r.signals <- syscall.SIGTERM
	r.log.await(t, `"message":"draining"`)
	select {
	case code := <-r.code:
		t.Fatalf("exit %d with a command under way, after one signal", code)
	case <-time.After(50 * time.Millisecond):
	}
	r.signals <- reloadSignal // no request to stop
	began := time.Now()
	r.signals <- syscall.SIGINT
	if code := r.exit(t); code != 0 || time.Since(began) > 10*time.Second {
		t.Errorf("exit %d after %s", code, time.Since(began))
	}
	r.log.await(t, "sessions were ended before they were done")
}

func TestDrainLastsNoLongerThanConfigured(t *testing.T) {
	r := runBehind(t, silent(t), "timeouts: {shutdown: 100ms}")
	r.hold(t)
	r.signals <- syscall.SIGTERM
	if code := r.exit(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.log.await(t, `"at_most":0.1`)
	r.log.await(t, "sessions were ended before they were done")
}

// A start may hang in storage, and Ctrl-C must still end it.
func TestASignalEndsAStartThatHangs(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- reloadSignal // no request to stop
	signals <- syscall.SIGTERM
	hang := func(ctx context.Context) (*service, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if s, err := startUnlessStopped(t.Context(), signals, hang); s != nil || !errors.Is(err, errStopped) {
		t.Errorf("%v, %v", s, err)
	}
	fail := errors.New("no")
	if _, err := startUnlessStopped(t.Context(), nil, func(context.Context) (*service, error) { return nil, fail }); err != fail {
		t.Errorf("%v", err)
	}
}

func TestAStartThatIsQuickerThanTheSignalIsStopped(t *testing.T) {
	signals := make(chan os.Signal, 1)
	port := free(t)
	c := parse(t, settings(port, "127.0.0.1:25", internalIn(t.TempDir())))
	s, err := startUnlessStopped(t.Context(), signals, func(context.Context) (*service, error) {
		s, err := start(t.Context(), c, outside{log: zap.NewNop()})
		signals <- syscall.SIGTERM
		for len(signals) > 0 { // until it is seen
			runtime.Gosched()
		}
		return s, err
	})
	if s != nil || !errors.Is(err, errStopped) {
		t.Fatalf("%v, %v", s, err)
	}
	if conn, err := net.Dial("tcp", port); err == nil {
		conn.Close()
		t.Error("still listens")
	}
}

func TestHUPReadsCertificates(t *testing.T) {
	cert, key := pairFor(t, time.Now().Add(twoMonths), "old.example.org")
	log, signals, code := new(tape), make(chan os.Signal, 4), make(chan int, 1)
	file := write(t, "run.yaml", settings(free(t), "127.0.0.1:25", filesOf(cert, key)))
	p := program{stdout: log, stderr: log, signals: func() (<-chan os.Signal, func()) { return signals, func() {} }}
	go func() { code <- p.execute([]string{"run", "-c", file}) }()
	log.await(t, `"message":"ready"`)
	newer, newKey := pairFor(t, time.Now().Add(twoMonths+time.Hour), "new.example.org")
	replace(t, newer, cert)
	replace(t, newKey, key)
	signals <- reloadSignal
	log.await(t, "certificate loaded", "new.example.org")
	log.await(t, "configuration reloaded")
	signals <- syscall.SIGTERM
	if got := <-code; got != 0 {
		t.Errorf("exit %d:\n%s", got, log)
	}
}

func replace(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestRunFailsWhereItCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := write(t, "taken.yaml", settings(taken.Addr().String(), "127.0.0.1:25", internalIn(t.TempDir())))
	code, _, stderr := command("run", "-c", file)
	want := "smtpseal: listen " + taken.Addr().String() + " (listener one): address already in use\n  is smtpseal"
	if code != 1 || !strings.Contains(stderr, want) || strings.Contains(stderr, `"ready"`) {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
}

func TestRunFailsWithoutItsCertificate(t *testing.T) {
	file := write(t, "none.yaml", settings(free(t), "127.0.0.1:25", filesOf("/nowhere/tls.crt", "/nowhere/tls.key")))
	code, _, stderr := command("run", "-c", file)
	if code != 1 || !strings.Contains(stderr, "smtpseal: certificates: ") || !strings.Contains(stderr, "/nowhere/tls.crt") {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
}

// The logs of libraries go the same way as ours, in the same form.
func TestLibrariesLogIntoOurs(t *testing.T) {
	r := runBehind(t, "127.0.0.1:25")
	stdlog.Print("a library speaks")
	r.log.await(t, `"level":"warn"`, `"message":"a library speaks"`)
	r.signals <- syscall.SIGTERM
	r.exit(t)
}
