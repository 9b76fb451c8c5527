package dns

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

const (
	defaultExecTimeout = time.Minute
	outputLimit        = 4 << 10         // octets of a program's output that are kept, its last
	outputDelay        = 2 * time.Second // for output that a child of the program holds open
	fallbackPath       = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// A program is run once for each record, without a shell. All that it gets is
// PATH and what the record is:
//
//	ACME_VERB   present or cleanup
//	ACME_ZONE   the zone, example.org.
//	ACME_FQDN   the record's name, _acme-challenge.mail.example.org.
//	ACME_TYPE   its type, TXT
//	ACME_VALUE  its value, without quotes
//
// Nothing else of our environment, where secrets may be, reaches it. Exit code 0
// is good; else the last line of its output tells the operator why.
type program struct {
	command []string
	timeout time.Duration
	log     *zap.Logger
}

func openExec(settings Settings, log *zap.Logger) (Provider, error) {
	p := &program{command: settings.list("command"), timeout: defaultExecTimeout, log: log}
	if text := settings["timeout"]; text != "" {
		var err error
		if p.timeout, err = time.ParseDuration(text); err != nil || p.timeout <= 0 {
			return nil, fmt.Errorf("timeout %q: use a duration such as 1m", text)
		}
	}
	if _, err := exec.LookPath(p.command[0]); err != nil {
		return nil, fmt.Errorf("command: %w: is it there, and executable for this user?", err)
	}
	return p, nil
}

func (p *program) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return p.each(ctx, "present", zone, records)
}

func (p *program) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return p.each(ctx, "cleanup", zone, records)
}

func (p *program) each(ctx context.Context, verb, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, record := range records {
		rr := record.RR()
		err := p.run(ctx, []string{
			"PATH=" + cmp.Or(os.Getenv("PATH"), fallbackPath),
			"ACME_VERB=" + verb,
			"ACME_ZONE=" + zone,
			"ACME_FQDN=" + libdns.AbsoluteName(rr.Name, zone),
			"ACME_TYPE=" + rr.Type,
			"ACME_VALUE=" + rr.Data,
		})
		if err != nil {
			return nil, fmt.Errorf("%s (%s): %w", p.command[0], verb, err)
		}
		p.log.Debug("program has run", zap.String("verb", verb), zap.String("zone", zone))
	}
	return records, nil
}

func (p *program) run(ctx context.Context, environment []string) error {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var output tail
	command := exec.CommandContext(limited, p.command[0], p.command[1:]...)
	command.Env = environment
	command.Stdout, command.Stderr = &output, &output
	command.WaitDelay = outputDelay
	together(command)
	err := command.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it is done, a child of it holds on to the output
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("ended: %w", ctx.Err())
	case limited.Err() != nil:
		return fmt.Errorf("ended after %s: does it wait for something? Else raise acme.dns.timeout%s", p.timeout, output.lastLine())
	}
	return fmt.Errorf("%w%s", err, output.lastLine())
}

// A tail keeps the end of what is written: a program that talks without end
// fills no memory. os/exec writes from one goroutine, as both are the same.
type tail struct{ kept []byte }

func (t *tail) Write(text []byte) (int, error) {
	t.kept = append(t.kept, text[max(0, len(text)-outputLimit):]...)
	t.kept = t.kept[max(0, len(t.kept)-outputLimit):]
	return len(text), nil
}

// lastLine is for the end of an error.
func (t *tail) lastLine() string {
	lines := bytes.Split(bytes.TrimSpace(t.kept), []byte("\n"))
	if last := brief(lines[len(lines)-1]); last != "" {
		return ": " + last
	}
	return ""
}
