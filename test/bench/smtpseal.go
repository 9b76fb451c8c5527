package main

import (
	"context"
	"fmt"
	"os"
)

// smtpsealConfig is an ordinary configuration: only the limits are raised, as
// all clients here share a few addresses, and the drain is short.
const smtpsealConfig = `hostname: %s
listeners:
  - {name: submissions, listen: "%s", tls: implicit, backend: sink}
  - {name: submission, listen: "%s", tls: starttls, backend: sink}
backends:
  sink: {servers: ["%s"], proxy_protocol: v2}
certificates:
  - {cert_file: %q, key_file: %q}
storage: {type: file, path: %q}
limits: {max_sessions: 20000, max_sessions_per_client: 20000}
timeouts: {shutdown: 1s}
`

// findSMTPSeal builds the working tree as a release is built: without the
// race detector.
func findSMTPSeal(ctx context.Context, b *rig, o options) (peer, error) {
	program := o.Binary
	if program == "" {
		program = b.path("smtpseal")
		if _, err := command(ctx, b.root, "go", "build", "-o", program, "./cmd/smtpseal"); err != nil {
			return peer{}, err
		}
	}
	version, err := command(ctx, b.root, "git", "describe", "--always", "--dirty")
	if err != nil {
		version = "unknown revision" // a release archive has no .git
	}
	launch := func(b *rig, at endpoints) (*process, error) { return launchSMTPSeal(b, at, program) }
	return peer{name: "smtpseal", version: version, startTLS: true, launch: launch}, nil
}

func launchSMTPSeal(b *rig, at endpoints, program string) (*process, error) {
	log := b.logFile("smtpseal")
	file := log + ".yaml"
	text := fmt.Sprintf(smtpsealConfig, serverName, at.implicit, at.startTLS, b.proxied, b.cert, b.key, b.path("storage"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return start(log, nil, program, "run", "-c", file)
}
