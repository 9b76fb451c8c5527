package main

import (
	"context"
	"errors"
	"net"
	"slices"

	"smtpseal/config"
)

// challengeListeners are where a CA asks us to prove that a name is ours.
type challengeListeners struct{ http01, alpn []net.Listener }

// bindChallenges opens what the chosen challenges need, or nothing.
func bindChallenges(ctx context.Context, c *config.Config) (open challengeListeners, err error) {
	if !c.ByACME() {
		return open, nil
	}
	var failed []error
	bind := func(challenge string, addresses []config.Address) (all []net.Listener) {
		if !slices.Contains(c.ACME.Challenges, challenge) {
			return nil
		}
		for _, addr := range addresses {
			l, err := listen(ctx, addr)
			if err != nil {
				failed = append(failed, adviseChallenge(challenge, addr, err))
				continue
			}
			all = append(all, l)
		}
		return all
	}
	open.http01 = bind("http-01", c.ACME.HTTPListen)
	open.alpn = bind("tls-alpn-01", c.ACME.TLSALPNListen)
	if len(failed) > 0 {
		open.close()
		return challengeListeners{}, errors.Join(failed...)
	}
	return open, nil
}

func (l challengeListeners) close() {
	for _, one := range slices.Concat(l.http01, l.alpn) {
		one.Close()
	}
}
