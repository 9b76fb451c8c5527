package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asProgram makes the test binary behave as smtpseal itself, for the tests that
// need a process: real signals, another user, a limit on open files.
const asProgram = "SMTPSEAL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command runs one command line in process. It gets no signals.
func command(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	p := program{stdout: &out, stderr: &err, signals: noSignals}
	code = p.execute(args)
	return code, out.String(), err.String()
}

func noSignals() (<-chan os.Signal, func()) { return nil, func() {} }

// write puts a file into a directory of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// A tape keeps what is written to it, for a reader in another goroutine.
type tape struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func (w *tape) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more != nil {
		close(w.more)
	}
	w.more = make(chan struct{})
	return w.text.Write(p)
}

func (w *tape) String() string {
	text, _ := w.state()
	return text
}

func (w *tape) state() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more == nil {
		w.more = make(chan struct{})
	}
	return w.text.String(), w.more
}

// await returns the first line that has all of the words.
func (w *tape) await(t *testing.T, words ...string) string {
	t.Helper()
	patience := time.After(20 * time.Second)
	for {
		text, more := w.state()
		for line := range strings.Lines(text) {
			if containsAll(line, words) {
				return line
			}
		}
		select {
		case <-more:
		case <-patience:
			t.Fatalf("no line with %q in:\n%s", words, text)
		}
	}
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

var _ io.Writer = (*tape)(nil)
