package certs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// An issuance is one way to have certificates: an origin and a type of key. Of
// certmagic it uses accounts, orders, challenges, and where things lie in the
// storage; not its cache, and not its maintenance, which would send a second CA
// what only the first one understands, retry at a staging CA, and never retry
// after an error of the storage.
type issuance struct {
	origin      string // acme or internal
	kind        keyType
	config      *certmagic.Config
	storage     certmagic.Storage
	poll        time.Duration
	alertBefore time.Duration
	advice      func(ctx context.Context, issuer string, c certmagic.Certificate) (window, error) // nil: no CA to ask
	slots       chan struct{}                                                                     // bounds the attempts at once
	asking      chan struct{}                                                                     // … and the questions
	limit       time.Duration                                                                     // of an attempt at all CAs
	noCA        error                                                                             // why there is no CA at all
}

// mostAttempts bounds how many orders are under way at once: a start with a
// thousand new names must not open a thousand connections to its CA.
const mostAttempts = 8

// idle is longer than any process lives: certmagic's maintenance shall not run.
const idle = 100 * 365 * day

// newCache makes the cache that certmagic cannot do without. Nothing is ever in
// it.
func newCache(log *zap.Logger) *certmagic.Cache {
	return certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
			return nil, errors.New("certmagic's cache is not in use")
		},
		RenewCheckInterval: idle,
		OCSPCheckInterval:  idle,
		Logger:             quiet(log),
	})
}

// newConfig sets every field, so that certmagic fills none from its package
// variables, which anybody may have changed.
func newConfig(cache *certmagic.Cache, storage certmagic.Storage, keys certmagic.KeyGenerator, log *zap.Logger) *certmagic.Config {
	config := certmagic.New(cache, certmagic.Config{
		RenewalWindowRatio: 1.0 / 3,
		OnEvent:            func(context.Context, string, map[string]any) error { return nil },
		ShouldEmitFunc:     func(string) bool { return false },
		DefaultServerName:  "none.invalid", // certmagic is never asked for a certificate
		FallbackServerName: "none.invalid",
		Issuers:            []certmagic.Issuer{noIssuer{}}, // until ours are made, which need this
		IssuerPolicy:       certmagic.UseFirstIssuer,
		ReusePrivateKeys:   true,
		KeySource:          keys,
		OCSP:               certmagic.OCSPConfig{DisableStapling: true}, // its fetch has no time-out
		Storage:            storage,
		DisableARI:         true, // or a renewal names the old certificate to a CA that did not issue it
		Logger:             quiet(log),
	})
	// The fields whose zero value New takes for unset.
	config.OnDemand, config.MustStaple, config.LocalCache = nil, false, nil
	return config
}

type noIssuer struct{ certmagic.Issuer }

// quiet keeps certmagic's tales for those who ask for them. What went wrong it
// also returns, and we say it once.
func quiet(log *zap.Logger) *zap.Logger {
	if log.Core().Enabled(zapcore.DebugLevel) {
		return log.Named("certmagic")
	}
	return zap.NewNop()
}

// errBusy is no failure: the turn of this certificate has not come yet.
var errBusy = errors.New("another process is at it, or many other names are")

// attempt obtains or renews the certificate, unless another process has done so
// meanwhile. force renews one that is not due.
func (m *managed) attempt(ctx context.Context, force bool) error {
	return m.attemptWithin(ctx, m.limit, force)
}

// lockPatience is several leases long. Whether the process that has the lock is
// dead is learned by watching it for a whole lease: who gives up sooner, and
// begins anew, never learns it.
const lockPatience = 2 * time.Minute

// attemptWithin is attempt for who has something else to do, and returns errBusy
// if there is no slot after patience, or the lock is held for long.
func (m *managed) attemptWithin(ctx context.Context, patience time.Duration, force bool) error {
	done, err := m.turn(ctx, patience)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	if err := m.reload(ctx); err != nil && !errors.Is(err, errBroken) {
		return fmt.Errorf("storage: %w", err)
	}
	if !force && !m.due(time.Now()) {
		return nil
	}
	return m.order(ctx, m.config)
}

// turn waits for a slot and for the lock of this certificate, of which all
// processes have one. certmagic's own lock, within it, would be let go between
// our look at the storage and the order.
func (m *managed) turn(ctx context.Context, patience time.Duration) (done func(), err error) {
	slot := time.NewTimer(patience)
	defer slot.Stop()
	select {
	case m.slots <- struct{}{}:
	case <-slot.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	soon, cancel := context.WithTimeout(ctx, max(patience, lockPatience))
	defer cancel()
	lock := "smtpseal_renew_" + certmagic.StorageKeys.Safe(m.kind.name+"_"+m.name)
	if err := m.storage.Lock(soon, lock); err != nil {
		<-m.slots
		if soon.Err() != nil {
			return nil, cmp.Or(ctx.Err(), errBusy)
		}
		return nil, fmt.Errorf("storage: lock %s: %w", lock, err)
	}
	return func() {
		m.storage.Unlock(context.WithoutCancel(ctx), lock)
		<-m.slots
	}, nil
}

// order asks the CAs, in their order. The caller has this certificate's turn.
func (m *managed) order(ctx context.Context, config *certmagic.Config) error {
	if err := m.mend(ctx); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	had := m.certificate()
	ctx, said := collect(ctx)
	if err := config.RenewCertSync(ctx, m.name, true); err != nil { // which obtains what there is not
		return said.or(plain(err, m.name, ""))
	}
	c, err := m.pair(ctx, cmp.Or(said.issuer, config.Issuers[0].IssuerKey()))
	if err != nil {
		return fmt.Errorf("storage: the new certificate: %w", err)
	}
	m.supersede(ctx, c)
	m.mu.Lock()
	m.hold(c)
	m.state.renewals++
	kind := EventRenewed
	if had == nil {
		kind = EventObtained
	}
	event := m.event(kind)
	m.mu.Unlock()
	m.source.refresh() // who hears of it may look at once
	fields := []zap.Field{zap.String("issuer", event.Issuer), zap.Time("not_after", event.NotAfter), zap.String("serial", event.Serial)}
	if m.origin == originACME {
		fields = append(fields, zap.String("challenge", cmp.Or(said.challenge, "none: the CA remembers one")))
	}
	m.log.Info("certificate "+string(kind), fields...)
	if len(said.all) > 0 {
		m.log.Warn("another CA had to be asked", zap.Errors("refused", said.all))
	}
	m.source.tell(event)
	return nil
}

func siteCert(issuer, name string) string { return certmagic.StorageKeys.SiteCert(issuer, name) }
func siteKey(issuer, name string) string  { return certmagic.StorageKeys.SitePrivateKey(issuer, name) }

// said gathers what each CA said in one attempt: certmagic returns only the last
// one's words.
type said struct {
	all       []error       // refusals
	wait      time.Duration // that all who refused ask for at least
	issuer    string        // the folder of the one that issued
	challenge string        // that it set; empty: none
}

type saidKey struct{}

func collect(ctx context.Context) (context.Context, *said) {
	s := &said{}
	return context.WithValue(ctx, saidKey{}, s), s
}

// refuse notes one refusal. A CA that asks for no wait may be asked soon.
func (s *said) refuse(err error, wait time.Duration) {
	if len(s.all) == 0 || wait < s.wait {
		s.wait = wait
	}
	s.all = append(s.all, err)
}

// A refusal is what all CAs said, and how long they want to be left alone.
type refusal struct {
	text string
	wait time.Duration
}

func (r *refusal) Error() string { return r.text }

// refusalText bounds what a CA may put into logs and status pages: the page of a
// gateway in front of it can be long.
const refusalText = 2048

func (s *said) or(err error) error {
	if len(s.all) == 0 {
		return err
	}
	var all []string
	for _, one := range s.all {
		text := one.Error()
		if len(text) > refusalText {
			text = strings.ToValidUTF8(text[:refusalText], "") + "…"
		}
		all = append(all, text)
	}
	return &refusal{strings.Join(all, "; "), s.wait}
}
