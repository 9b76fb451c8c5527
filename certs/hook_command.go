package certs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	hookCommandTime = 30 * time.Second // against a command that never ends

	// hookPipeTime is for a child that a command leaves behind with our end of
	// its output: not a reason to wait for the child.
	hookPipeTime = time.Second

	hookOutput = 4096 // of the end of what it prints, against a flood
	hookLine   = 256  // of the last line, as the log shows it
)

// runCommand runs the command with an event in its environment and on its standard
// input. It inherits nothing of ours but PATH: our environment may hold the
// secrets that the configuration refers to. The last line printed says mostly
// what was wrong.
func (h *hook) runCommand(ctx context.Context, e Event) (lastLine string, err error) {
	body, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("event: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, h.commandTime)
	defer cancel()
	cmd := exec.CommandContext(limited, h.Command[0], h.Command[1:]...)
	cmd.Env = hookEnvironment(e)
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	out := &tail{limit: hookOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = hookPipeTime
	ownGroup(cmd)
	err = cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it ended well and left a child behind
		err = nil
	case ctx.Err() != nil && err != nil:
		err = errors.New("killed: shutting down")
	case limited.Err() != nil && err != nil:
		err = fmt.Errorf("killed after %v: let it return sooner", h.commandTime)
	}
	return out.lastLine(), err
}

func hookEnvironment(e Event) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := []string{"PATH=" + path}
	for _, v := range [][2]string{
		{"EVENT", string(e.Kind)}, {"NAME", e.Name}, {"KEY_TYPE", e.KeyType}, {"ISSUER", e.Issuer},
		{"SERIAL", e.Serial}, {"NOT_AFTER", e.notAfter()}, {"ERROR", e.Error},
	} {
		env = append(env, "SMTPSEAL_"+v[0]+"="+strings.ReplaceAll(v[1], "\x00", ""))
	}
	return env
}

// A tail keeps the end of what is written to it.
type tail struct {
	limit int
	kept  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-t.limit):]...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	text := strings.TrimSpace(string(t.kept))
	return bounded(text[strings.LastIndexByte(text, '\n')+1:], hookLine)
}
