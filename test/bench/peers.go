package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"smtpseal/test/loopback"
)

// A peer is a program to measure, found and ready to be started.
type peer struct {
	name     string
	version  string
	startTLS bool // can do STARTTLS for SMTP
	launch   func(b *rig, at endpoints) (*process, error)
}

// endpoints are where one instance of a peer listens.
type endpoints struct{ implicit, startTLS string }

// An instance is a peer that runs, for one measurement.
type instance struct {
	*process
	peer
	at       endpoints
	implicit *dialer // 465's way
	upgraded *dialer // 587's way; nil if the peer has none
	pace     float64 // operations a second of the latest counted work, by the wall clock
}

// finders say where each peer comes from.
var finders = map[string]func(ctx context.Context, b *rig, o options) (peer, error){
	"naive":    findNaive,
	"haproxy":  findHAProxy,
	"smtpseal": findSMTPSeal,
}

func findPeer(ctx context.Context, b *rig, o options, name string) (peer, error) {
	find, ok := finders[name]
	if !ok {
		return peer{}, fmt.Errorf("unknown; there are naive, haproxy and smtpseal")
	}
	return find(ctx, b, o)
}

// run starts a fresh instance of p and proves with one session a way that it
// serves what is compared: TLS 1.3, X25519, AES-128-GCM. The caller stops it.
func (b *rig) run(ctx context.Context, p peer) (_ *instance, err error) {
	i := &instance{peer: p}
	if i.at.implicit, err = loopback.Free("127.0.0.1"); err != nil {
		return nil, err
	}
	if i.at.startTLS, err = loopback.Free("127.0.0.1"); err != nil {
		return nil, err
	}
	if i.process, err = p.launch(b, i.at); err != nil {
		return nil, err
	}
	i.implicit = b.dialer(implicit, i.at.implicit)
	ways := []*dialer{i.implicit}
	if p.startTLS {
		i.upgraded = b.dialer(startTLS, i.at.startTLS)
		ways = append(ways, i.upgraded)
	}
	for _, d := range ways {
		if err := i.prove(ctx, d); err != nil {
			i.stop()
			return nil, err
		}
	}
	return i, nil
}

func (i *instance) prove(ctx context.Context, d *dialer) error {
	if err := awaitListener(i.process, d.addr); err != nil {
		return err
	}
	s, err := d.open(ctx)
	if err != nil {
		return fmt.Errorf("first session: %w: %s", err, tail(i.log))
	}
	defer s.close()
	state := s.tls.ConnectionState()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("first session: not comparable: %s, %s, %s", tls.VersionName(state.Version),
			state.CurveID, tls.CipherSuiteName(state.CipherSuite))
	}
	return s.farewell()
}
