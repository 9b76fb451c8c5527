package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"smtpseal/cmd/smtpseal/demo"
	"smtpseal/config"
	"smtpseal/proxy"
)

func (p program) demoCommand() *cobra.Command {
	var d demonstration
	var once bool
	c := &cobra.Command{
		Use:     "demo [--once]",
		Short:   "See it work: two messages on loopback, without root, network or configuration",
		GroupID: "start",
		Long: `demo starts a small mail server without TLS and smtpseal in front of it, all on
loopback, with certificates from a CA of its own in a directory that is removed
at the end. It sends a message by TLS and one by STARTTLS, shows both dialogues
and the PROXY header that the mail server received, and compares what arrived
with what was sent.

It then stays up, with commands to try, until Ctrl-C.`,
		Example: `  smtpseal demo
  smtpseal demo --once
  smtpseal demo --listen-465 127.0.0.1:2465 --listen-587 127.0.0.1:2587`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			d.show = newStage(p.stdout)
			d.log = &gate{to: p.stderr}
			signals, release := p.signals()
			defer release()
			ctx, stop := untilStopped(signals)
			defer stop()
			return d.run(ctx, once)
		},
	}
	c.Flags().BoolVar(&once, "once", false, "end after the two messages; exit code 0 only if both arrived intact")
	c.Flags().StringVar(&d.implicit, "listen-465", "127.0.0.1:1465", "`HOST:PORT` where TLS is spoken from the first byte")
	c.Flags().StringVar(&d.admin, "listen-admin", config.AdminDefault.Addr, "`HOST:PORT` of the status page")
	c.Flags().StringVar(&d.starttls, "listen-587", "127.0.0.1:1587", "`HOST:PORT` where STARTTLS is demanded")
	return c
}

// A demonstration is smtpseal between the two ends of package demo.
type demonstration struct {
	implicit, starttls, admin string // where to listen
	show                      stage
	log                       *gate

	dir       string // everything on disk, removed at the end
	service   *service
	roots     *x509.CertPool
	delivered chan demo.Message
	ended     sessionsEnded
}

// run shows everything and, unless it is for once, stays until ctx ends.
func (d *demonstration) run(ctx context.Context, once bool) (err error) {
	if d.dir, err = os.MkdirTemp("", "smtpseal-demo-"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mta := demo.MTA{Name: "mta.example", Deliver: d.deliver}
	d.delivered = make(chan demo.Message, 16)
	d.ended = make(sessionsEnded, 16)
	serving, stopMTA := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { mta.Serve(serving, backend) })
	defer running.Wait()
	defer stopMTA()

	settings := fmt.Sprintf(demoSettings, d.implicit, d.starttls, backend.Addr().String(), d.dir, d.admin)
	if err := d.start(ctx, settings); err != nil {
		return err
	}
	defer d.stop()
	if err := d.trust(); err != nil {
		return err
	}
	d.show.opening(d.service.now.Load(), settings)
	if err := d.mails(ctx); err != nil || once {
		return err
	}
	d.invite(ctx)
	return nil
}

// deliver never blocks the mail server: what nobody looks at is dropped.
func (d *demonstration) deliver(m demo.Message) {
	select {
	case d.delivered <- m:
	default:
	}
}

// demoSettings is a configuration as anybody would write it.
const demoSettings = `listeners:
  - {name: submissions, listen: %q, tls: implicit, backend: mta}
  - {name: submission, listen: %q, tls: starttls, backend: mta}
backends:
  mta: {servers: [%q], proxy_protocol: v2, relay_check: off}
certificates:
  - {names: [localhost, 127.0.0.1], internal: true}
storage: {type: file, path: %q}
admin: {listen: %q}
log: {format: console}
`

// start brings smtpseal up by the same way as run.
func (d *demonstration) start(ctx context.Context, settings string) error {
	c, err := config.Parse("demo", []byte(settings))
	if err != nil {
		return err
	}
	log, err := newLog(d.log, c.Log)
	if err != nil {
		return err
	}
	d.service, err = start(ctx, c, outside{log: log, observers: []proxy.Observer{d.ended}})
	return adviseDemo(err)
}

// trust takes the internal CA's root for our own client, and writes it down for
// the user's.
func (d *demonstration) trust() error {
	root, err := d.service.now.Load().keeping.source.RootPEM()
	if err != nil {
		return err
	}
	d.roots = x509.NewCertPool()
	d.roots.AppendCertsFromPEM(root)
	return os.WriteFile(d.file("root.pem"), root, 0o644)
}

func (d *demonstration) file(name string) string { return filepath.Join(d.dir, name) }

// stop gives sessions that are still up a moment: whoever plays with the demo
// and presses Ctrl-C does not want to wait for them.
func (d *demonstration) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	d.service.stop(ctx)
}
