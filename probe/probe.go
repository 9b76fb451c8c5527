// Package probe is a mail client that looks for what is wrong with a deployed
// mail server: at its ports, in its TLS and certificate, in what it says before
// and after TLS, and in the DNS records that speak of it.
//
// It believes nothing. A server that lies, floods, stalls or never ends costs
// bounded time and memory, what it says is made printable before anybody sees
// it, no redirect is followed, and nothing that is secret is ever sent. No mail is delivered: a
// dialogue ends before DATA, except where Options.SmuggleTo agrees to what a
// broken server would then deliver.
//
// docs/probe.md has the list of checks. Their ids are stable.
package probe

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"time"
)

// Options say what to look at, and as whom.
type Options struct {
	Targets    []Target
	Domain     string         // the mail domain, for MX and MTA-STS; default: found by MX records
	ServerName string         // in TLS, in certificate and TLSA record, in place of the target's host
	Roots      *x509.CertPool // who may have signed certificates; nil: the system's
	Resolver   string         // host or host:port of a DNS server; "": the system's
	Relay      *Envelope      // for the check of that name; nil: it is not made
	SmuggleTo  string         // a recipient who may get what a broken server smuggles; "": not tried
	Helo       string         // default: an address literal
	Timeout    time.Duration  // of one wait; default 10 s
	Silence    time.Duration  // how long nothing must come for "no answer" to be believed; default 2 s

	// Dial is net.Dialer's for everything but DNS, which tests replace.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Target is a host, by name or address, and a port. Without a port the
// submission ports and 25 are looked at, and a mail domain stands for the host
// that its MX record prefers. Mode may be left out.
type Target struct {
	Host, Port string
	Mode       Mode
}

// An Envelope is a sender and a recipient.
type Envelope struct{ From, To string }

// A Mode is what a server expects of a client before TLS.
type Mode string

// The modes have the names that the configuration of smtpseal has for them.
const (
	Implicit      Mode = "implicit"          // TLS first (RFC 8314)
	StartTLS      Mode = "starttls"          // nothing before STARTTLS (RFC 6409, 3207)
	Opportunistic Mode = "starttls-optional" // STARTTLS is offered (RFC 7435)
)

// An Event is news of one endpoint: a check begins, has ended, or was the last.
type Event struct {
	Endpoint int // index in the report
	Address  string
	Mode     Mode
	Doing    string // what is about to be checked
	Check    *Check // what has been
	Done     bool
}

// Bounds of a run. A server that stalls at each step of each check costs no
// more than this, and hosts are not asked by more connections at once than a
// busy user would open.
const (
	endpointTime     = 3 * time.Minute
	endpointsAtATime = 6
)

// Run looks at all targets, endpoints at once, checks in order. It calls tell
// for each event, one at a time; tell may be nil.
func Run(ctx context.Context, o Options, tell func(Event)) Report {
	o = o.defaults()
	p := &prober{Options: o, dns: newResolver(o)}
	endpoints := p.endpoints(ctx)
	report := Report{Endpoints: make([]Endpoint, len(endpoints))}
	var telling sync.Mutex
	var looking sync.WaitGroup
	places := make(chan struct{}, endpointsAtATime)
	for i, e := range endpoints {
		looking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			e.tell = func(event Event) {
				event.Endpoint, event.Address, event.Mode = i, e.address(), e.mode
				telling.Lock()
				defer telling.Unlock()
				if tell != nil {
					tell(event)
				}
			}
			report.Endpoints[i] = e.look(ctx)
		})
	}
	looking.Wait()
	report.count()
	return report
}

func (o Options) defaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Silence <= 0 {
		o.Silence = 2 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Resolver: addressResolver(o.Resolver)}).DialContext
	}
	return o
}

// A prober is what the endpoints of a run share.
type prober struct {
	Options
	dns *resolver
}

// endpoints are the targets, each of those without a port three times.
func (p *prober) endpoints(ctx context.Context) (all []*endpoint) {
	for _, t := range p.Targets {
		mail := p.mailDomain(ctx, t.Host)
		if t.Port != "" {
			all = append(all, p.endpoint(t, mail))
			continue
		}
		for _, port := range []string{"465", "587", "25"} {
			e := p.endpoint(Target{Host: mail.host(t.Host), Port: port, Mode: t.Mode}, mail)
			e.optional = port == "25"
			all = append(all, e)
		}
	}
	return all
}

func (p *prober) endpoint(t Target, mail domain) *endpoint {
	e := &endpoint{prober: p, host: t.Host, port: t.Port, name: t.Host, mode: t.Mode, mail: mail}
	if p.ServerName != "" {
		e.name = p.ServerName
	}
	if e.mode == "" {
		e.mode = map[string]Mode{"465": Implicit, "587": StartTLS, "25": Opportunistic}[t.Port]
	}
	return e
}
