package main

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"smtpseal/certs"
	"smtpseal/config"
	"smtpseal/proxy"
	"smtpseal/proxy/backend"
)

// This file turns what the configuration says into what the packages take. It
// decides nothing that the configuration could have decided.

// policy is what a listener wants of TLS: its own named policy, else that of
// all listeners with the explicit settings that replace parts of it. Session
// tickets are one setting for all.
func policy(all config.TLS, l config.Listener) certs.Policy {
	p := certs.Policy{
		Name:         all.Policy,
		MinVersion:   all.MinVersion,
		CipherSuites: all.CipherSuites,
		Curves:       all.Curves,
	}
	if l.TLSPolicy != "" {
		p = certs.Policy{Name: l.TLSPolicy}
	}
	p.SessionTickets = all.SessionTickets
	p.Listener = l.Name
	p.ClientAuth = l.ClientAuth
	p.ClientCAFile = l.ClientCAFile
	return p
}

// whenReady yields a listener's TLS settings as soon as there is a certificate
// to serve, and others meanwhile; without those the proxy answers 454 until then.
func whenReady(source *certs.Source, settings, meanwhile *tls.Config) func() *tls.Config {
	return func() *tls.Config {
		if !source.Ready() {
			return meanwhile
		}
		return settings
	}
}

// tlsSettings makes the TLS settings of each listener, by its name.
func tlsSettings(source *certs.Source, c *config.Config) (map[string]*tls.Config, error) {
	settings := make(map[string]*tls.Config)
	for _, l := range c.Listeners {
		t, err := source.TLSConfig(policy(c.TLS, l))
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.Name, err)
		}
		settings[l.Name] = t
	}
	return settings, nil
}

var modes = map[string]proxy.Mode{
	"implicit":          proxy.Implicit,
	"starttls":          proxy.StartTLS,
	"starttls-optional": proxy.Opportunistic,
}

var proxyVersions = map[string]backend.Version{
	"off": backend.Off,
	"v1":  backend.V1,
	"v2":  backend.V2,
}

var proxyTLVs = map[string]backend.TLV{
	"ssl":       backend.TLVSSL,
	"authority": backend.TLVAuthority,
	"unique_id": backend.TLVUniqueID,
	"alpn":      backend.TLVALPN,
	"cn":        backend.TLVCN,
}

func backends(c *config.Config) map[string]*backend.Backend {
	made := make(map[string]*backend.Backend)
	for _, b := range c.Backends {
		one := &backend.Backend{Name: b.Name, Proxy: proxyVersions[b.ProxyProtocol], Hide: b.HideExtensions,
			Health: backend.Health{Interval: b.Health.Interval, Timeout: b.Health.Timeout, Fall: b.Health.Fall, Rise: b.Health.Rise}}
		for _, s := range b.Servers {
			one.Servers = append(one.Servers, backend.Server{Network: s.Network, Addr: s.Addr})
		}
		for _, name := range b.ProxyTLVs {
			one.TLVs |= proxyTLVs[name]
		}
		made[b.Name] = one
	}
	return made
}

func limits(l config.Limits) proxy.Limits {
	return proxy.Limits{Sessions: l.MaxSessions, PerClient: l.MaxSessionsPerClient, Handshakes: l.MaxHandshakes}
}

func timeouts(t config.Timeouts) proxy.Timeouts {
	return proxy.Timeouts{
		Cleartext: t.Cleartext,
		Handshake: t.Handshake,
		Dial:      t.Dial,
		Greeting:  t.Greeting,
		Command:   t.Command,
		Body:      t.Body,
		Reply:     t.Reply,
		Session:   t.Session,
	}
}

// hostname is the name in greetings and 421 replies: the configured one, else
// the first that a certificate has and that is neither a wildcard nor an
// address, else the machine's.
func hostname(configured string, certified []string) string {
	if configured != "" {
		return configured
	}
	for _, name := range certified {
		_, err := netip.ParseAddr(name)
		if err != nil && !strings.HasPrefix(name, "*.") {
			return name
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
