package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// serve runs the command and returns what it printed, its standard input, and
// where its end will be told.
func serve(t *testing.T, ctx context.Context, args ...string) (facts, *os.File, <-chan error) {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, args, in, out)
		out.CloseWithError(io.EOF)
		ended <- err
	}()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v, %v", err, <-ended)
	}
	var f facts
	if err := json.Unmarshal(line, &f); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return f, stdin, ended
}

func wantEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still there")
	}
}

func TestPrintsWhatAClientNeedsAndEndsWithItsStandardInput(t *testing.T) {
	f, stdin, ended := serve(t, t.Context(), "-http-port", "18080", "-tls-port", "18443", "-eab", "kid:c2VjcmV0", "-profile", "fast=1m")
	if f.HTTP != "127.0.0.1:18080" || f.TLS != "127.0.0.1:18443" || f.DNS == "" || f.EAB["kid"] != "c2VjcmV0" {
		t.Errorf("%+v", f)
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(f.Roots)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("roots: %v", err)
	}
	if text, err := os.ReadFile(f.Issuer); err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		t.Errorf("issuer: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(f.Directory)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if !strings.Contains(string(body), `"fast"`) || !strings.Contains(string(body), `"externalAccountRequired": true`) {
		t.Errorf("directory: %s", body)
	}
	stdin.Close()
	wantEnd(t, ended)
	if _, err := os.Stat(f.Roots); !os.IsNotExist(err) {
		t.Errorf("%s is left", f.Roots)
	}
}

func TestEndsWithASignal(t *testing.T) {
	ctx, signal := context.WithCancel(t.Context())
	_, _, ended := serve(t, ctx)
	signal()
	wantEnd(t, ended)
}

// A shell gives /dev/null to what it runs in the background.
func TestDevNullDoesNotEndIt(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wait(ctx, null)
	if ctx.Err() == nil {
		t.Error("ended before the signal")
	}
}

func TestWrongFlags(t *testing.T) {
	for _, args := range [][]string{{"-eab", "x"}, {"-profile", "x"}, {"-profile", "x=y"}, {"surplus"}, {"-no-such"}, {"-eab", "kid:###"}} {
		if err := run(t.Context(), args, os.Stdin, io.Discard); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
