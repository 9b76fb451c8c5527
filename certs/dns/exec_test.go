package dns

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libdns/libdns"
)

// script writes a program for the exec provider.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExecGetsTheRecordAndNothingElse(t *testing.T) {
	t.Setenv("A_SECRET", "hush")
	seen := filepath.Join(t.TempDir(), "seen")
	hook := script(t, `{ echo "$1"; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort; } >`+seen)
	provider := open(t, "exec", Settings{"command": List(hook, `an "argument" $HOME; true`)})
	for verb, do := range map[string]func(context.Context, string, []libdns.Record) ([]libdns.Record, error){
		"present": provider.AppendRecords, "cleanup": provider.DeleteRecords,
	} {
		_, err := do(t.Context(), "example.test.", aText)
		good(t, err)
		got, err := os.ReadFile(seen)
		good(t, err)
		want := `an "argument" $HOME; true` + "\nACME_FQDN=_acme-challenge.example.test.\nACME_TYPE=TXT\nACME_VALUE=value\nACME_VERB=" + verb +
			"\nACME_ZONE=example.test.\nPATH=" + os.Getenv("PATH") + "\n"
		if string(got) != want {
			t.Errorf("%s got\n%swant\n%s", verb, got, want)
		}
	}
}

func TestExecErrorHasTheLastLine(t *testing.T) {
	hook := script(t, "echo first; echo 'zone is locked' >&2; echo; exit 3")
	_, err := open(t, "exec", Settings{"command": hook}).AppendRecords(t.Context(), "example.test.", aText)
	says(t, err, hook+" (present): exit status 3: zone is locked")
	if strings.Contains(err.Error(), "first") {
		t.Errorf("more than the last line: %v", err)
	}
}

func TestExecOutputIsBounded(t *testing.T) {
	hook := script(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo; head -c 5000 /dev/zero | tr '\\0' y; exit 1")
	_, err := open(t, "exec", Settings{"command": hook}).AppendRecords(t.Context(), "example.test.", aText)
	says(t, err, "exit status 1: yyyy")
	if len(err.Error()) > 2*messageLimit {
		t.Errorf("error of %d octets", len(err.Error()))
	}
}

// A shell alone that is killed leaves its child behind, which holds the zone's
// lock, or our output.
func TestExecTimeoutEndsTheWholeGroup(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	hook := script(t, "sleep 60 &\necho $! >"+child+"\nwait")
	provider := open(t, "exec", Settings{"command": hook, "timeout": "300ms"})
	began := time.Now()
	_, err := provider.AppendRecords(t.Context(), "example.test.", aText)
	says(t, err, "ended after 300ms", "acme.dns.timeout")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	text, err := os.ReadFile(child)
	good(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	good(t, err)
	for deadline := time.Now().Add(5 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child lives on")
		}
	}
}

// runs: a child whose parent is gone may wait as a zombie for init.
func runs(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	return !strings.Contains(string(stat), ") Z ")
}

// A daemon that the program leaves keeps its output open; the record is there.
func TestExecDoesNotWaitForWhatHoldsTheOutput(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	hook := script(t, "sleep 60 &\necho $! >"+child)
	began := time.Now()
	_, err := open(t, "exec", Settings{"command": hook}).AppendRecords(t.Context(), "example.test.", aText)
	good(t, err)
	if took := time.Since(began); took > outputDelay+3*time.Second {
		t.Errorf("took %s", took)
	}
	text, err := os.ReadFile(child)
	good(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	good(t, err)
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestExecCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := open(t, "exec", Settings{"command": script(t, "sleep 60")}).AppendRecords(ctx, "example.test.", aText)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestExecSettings(t *testing.T) {
	for _, settings := range []Settings{
		{},
		{"command": "/nonexistent/program"},
		{"command": script(t, ""), "timeout": "soon"},
		{"command": script(t, ""), "timeout": "-1s"},
	} {
		if _, err := Open("exec", settings, nil); err == nil {
			t.Errorf("%v is accepted", settings)
		}
	}
}

// The whole way with a program: it sees the name where the CNAME leads.
func TestExecWithTheSolver(t *testing.T) {
	server := oneServer(t, "_acme-challenge.mail CNAME target")
	seen := filepath.Join(t.TempDir(), "seen")
	hook := script(t, `echo "$ACME_VERB $ACME_FQDN $ACME_ZONE $ACME_VALUE" >>`+seen)
	s := solver(t, Options{Provider: open(t, "exec", Settings{"command": hook}), Resolvers: []string{server.Addr()}, PropagationTimeout: -1})
	one := challenge("mail.example.test", "one")
	good(t, s.Present(t.Context(), one))
	good(t, s.Wait(t.Context(), one))
	good(t, s.CleanUp(t.Context(), one))
	got, err := os.ReadFile(seen)
	good(t, err)
	rest := " target.example.test. example.test. " + one.DNS01KeyAuthorization() + "\n"
	if string(got) != "present"+rest+"cleanup"+rest {
		t.Errorf("got %s", got)
	}
}
