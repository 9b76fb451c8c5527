package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"sync"

	"go.uber.org/zap"

	"smtpseal/certs"
	"smtpseal/certs/storage"
	"smtpseal/config"
)

// A keeping is certificates that are kept fresh. It lives as long as what it was
// made of does not change; which certificates it keeps may.
type keeping struct {
	made    made
	source  *certs.Source
	store   storage.Store // nil: nothing is stored
	answers challengeListeners
	log     *zap.Logger

	// Serves as long as source has nothing: that of the keeping before, which is
	// no longer looked after. nil: there is none.
	meanwhile *certs.Source

	cancel  context.CancelFunc // nil: it was never run
	running sync.WaitGroup
}

// made is what a keeping depends on.
type made struct {
	acme    config.ACME // zero without certificates by ACME
	storage config.Storage
	stored  bool
	secrets [sha256.Size]byte // what the references of both point to
}

func madeOf(c *config.Config) (made, error) {
	m := made{stored: keepsCertificates(c)}
	if m.stored {
		m.storage = c.Storage
	}
	if c.ByACME() {
		m.acme = c.ACME
	}
	sum := sha256.New()
	for _, secret := range m.references() {
		text := ""
		if err := resolve(secret, &text); err != nil {
			return made{}, err
		}
		fmt.Fprintf(sum, "%q\n", text)
	}
	for _, file := range m.roots() {
		text, err := os.ReadFile(file) // who needs it says what is wrong with it
		fmt.Fprintf(sum, "%q %v\n", text, err)
	}
	copy(m.secrets[:], sum.Sum(nil))
	return m, nil
}

func (m made) references() []config.Secret {
	all := []config.Secret{m.storage.URL, m.storage.EncryptionKey, m.acme.EAB.HMACKey}
	for _, d := range m.acme.Fallback {
		all = append(all, d.EAB.HMACKey)
	}
	for _, key := range slices.Sorted(maps.Keys(m.acme.DNS.Settings)) {
		all = append(all, m.acme.DNS.Settings[key])
	}
	return all
}

func (m made) roots() (all []string) {
	for _, file := range append([]string{m.acme.TrustedRoots}, fallbackRoots(m.acme)...) {
		if file != "" {
			all = append(all, file)
		}
	}
	return all
}

func fallbackRoots(a config.ACME) (all []string) {
	for _, d := range a.Fallback {
		all = append(all, d.TrustedRoots)
	}
	return all
}

func (m made) equal(other made) bool { return reflect.DeepEqual(m, other) }

// serving is who has certificates to serve, or nil. It is one Source, however
// many keepings have come and gone without any.
func (k *keeping) serving() *certs.Source {
	switch {
	case k == nil:
		return nil
	case k.source.Ready():
		return k.source
	}
	return k.meanwhile
}

// challengeListeners are where a CA asks us to prove that a name is ours.
type challengeListeners struct{ http01, alpn []net.Listener }

func (l challengeListeners) close() {
	closeAll(l.http01)
	closeAll(l.alpn)
}

// openKeeping opens storage and certificates. Who does not run it releases it.
func openKeeping(ctx context.Context, c *config.Config, m made, s *service) (_ *keeping, err error) {
	k := &keeping{made: m, log: s.log}
	defer func() {
		if err != nil {
			k.release()
		}
	}()
	if k.store, err = openStorage(ctx, c, s.log); err != nil {
		return nil, err
	}
	options, err := certOptions(c, k.store, s.log)
	if err != nil {
		return nil, err
	}
	options.Tickets, options.Observe = s.tickets, s.renewals.observe
	options.Strict = s.now.Load() != nil // nothing that runs is given up for a part of what is wanted
	if k.source, err = certs.Open(ctx, options); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return k, nil
}

// listenOn gives it copies of the sockets where CAs look for us.
func (k *keeping) listenOn(s sockets) (err error) {
	if k.answers.http01, err = copies(s.nets(forHTTP)); err != nil {
		return err
	}
	k.answers.alpn, err = copies(s.nets(forALPN))
	return err
}

// run keeps the certificates fresh and answers challenges, until stop.
func (k *keeping) run() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.running.Go(func() {
		if err := k.source.Run(ctx); err != nil && ctx.Err() == nil {
			k.log.Error("certificates are no longer looked after", zap.Error(err))
		}
	})
	k.running.Go(func() { k.source.ServeChallenges(ctx, k.answers.http01, k.answers.alpn) })
}

// stop ends what run began. The certificates can be served on.
func (k *keeping) stop() {
	if k.cancel != nil {
		k.cancel()
		k.running.Wait()
	}
	k.release()
}

func (k *keeping) release() {
	k.answers.close()
	if k.source != nil {
		k.source.Close()
	}
	if k.store != nil {
		if err := k.store.Close(); err != nil {
			k.log.Warn("storage not closed", zap.Error(err))
		}
	}
}
