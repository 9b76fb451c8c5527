package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Session tickets that every replica opens. The keys are in the storage, where
// a list of at most seven is written under a lock, and are polled by all:
//
//   - a new key is made every day, by whoever finds the newest too old;
//   - it is announced first and seals later, when every replica has had two
//     polls to see it, so that no ticket meets a replica that cannot open it;
//   - it is dead after seven days, as crypto/tls's own keys are;
//   - no listener uses a key itself, but one derived from it, its name and its
//     policy: a ticket of a listener that wants no client certificate must not
//     open one that does (the class of CVE-2025-23419).
//
// A storage that is away changes nothing for the keys in use. Where there are
// none yet, or none is left alive, a process seals with keys of its own, which
// it goes on opening afterwards. Who deletes the list ends all its tickets
// within a poll; who steals it can read recorded sessions of TLS 1.2, so
// that the configuration demands an encrypted storage.
const (
	ticketsKey  = "tickets/keys.json"
	ticketsLock = "tickets"
)

// The clock is looked at in each poll, and nothing sleeps for longer: a timer
// of a day would miss clocks that jump, and die of one error.
const ticketPoll = 30 * time.Second

// ticketTimeout bounds one poll in all, against a storage that accepts and is
// silent, or a lock whose holder stands still.
const ticketTimeout = 20 * time.Second

type tickets struct {
	storage certmagic.Storage // nil: the keys are this process's own
	log     *zap.Logger
	now     func() time.Time // the wall clock
	wake    chan struct{}    // a first listener has come

	mu       sync.Mutex
	shared   []ticketKey // what the storage had when it was last read
	own      []ticketKey // made by this process, for itself
	begun    bool        // a first listener has come
	read     bool        // the storage has been read once
	away     bool        // … and cannot be now, which has been logged
	attached []attachment
	applied  []string // ids of the keys that all of them have
}

// An attachment is a listener's configuration. It is not kept alive: after a
// reload the old one lives only as long as its sessions.
type attachment struct {
	config weak.Pointer[tls.Config]
	info   string // what sets its keys apart from other listeners'
}

// newTickets asks nothing of the storage: run does.
func newTickets(storage certmagic.Storage, log *zap.Logger) *tickets {
	return &tickets{storage: storage, log: log, now: time.Now, wake: make(chan struct{}, 1)}
}

// attach gives c the keys of the listener called name, now and whenever they
// change, as long as c is in use. It must be done before c is. Listeners
// share tickets if both texts are the same.
func (t *tickets) attach(name, policy string, c *tls.Config) {
	t.begin()
	t.mu.Lock()
	defer t.mu.Unlock()
	info := ticketInfo(name, policy)
	c.SetSessionTicketKeys(deriveTicketKeys(t.inUse(), info))
	t.attached = append(t.attached, attachment{weak.Make(c), info})
	t.forget()
	select {
	case t.wake <- struct{}{}:
	default: // it is awake already
	}
}

// ticketBegin bounds what a start waits for keys. They can be taken later.
const ticketBegin = 2 * time.Second

// begin reads the keys for the first listener. If a reload has made it, in place
// of one that had them, it shall open tickets from its first handshake on.
func (t *tickets) begin() {
	t.mu.Lock()
	first := !t.begun && t.storage != nil
	t.begun = true
	t.mu.Unlock()
	if !first {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), ticketBegin)
	defer cancel()
	if keys, err := t.load(ctx); err == nil { // else a poll says it
		t.take(keys)
	}
}

// run keeps the keys fresh until ctx ends. It leaves the storage alone while
// no listener shares its tickets.
func (t *tickets) run(ctx context.Context) {
	tick := time.NewTicker(ticketPoll)
	defer tick.Stop()
	for {
		t.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-t.wake:
		}
	}
}

func (t *tickets) poll(ctx context.Context) {
	if !t.wanted() {
		return
	}
	err := t.fetch(ctx)
	t.apply()             // time has passed, whatever the storage says
	if ctx.Err() == nil { // else we are ending: says nothing about the storage
		t.report(err)
	}
}

// fetch takes what the storage has, and makes a new key there if it is time to.
func (t *tickets) fetch(ctx context.Context) error {
	if t.storage == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ticketTimeout)
	defer cancel()
	keys, err := t.load(ctx)
	if err != nil {
		return err
	}
	t.take(keys)
	if !ticketKeyDue(keys, t.wall()) {
		return nil
	}
	if keys, err = t.renew(ctx); err == nil {
		t.take(keys)
	}
	return err
}

// wanted reports whether any listener shares its tickets.
func (t *tickets) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	return len(t.attached) > 0
}

func (t *tickets) load(ctx context.Context) ([]ticketKey, error) {
	data, err := t.storage.Load(ctx, ticketsKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeTicketKeys(data)
}

// renew makes a new key. Under the lock it looks again, since another replica
// may have been faster. A lock that is lost all the same costs one key too many
// or too few, and clients a full handshake.
func (t *tickets) renew(ctx context.Context) ([]ticketKey, error) {
	if err := t.storage.Lock(ctx, ticketsLock); err != nil {
		return nil, err
	}
	defer t.unlock(ctx)
	keys, err := t.load(ctx)
	if err != nil || !ticketKeyDue(keys, t.wall()) {
		return keys, err
	}
	keys = addTicketKey(keys, t.wall())
	data, err := encodeTicketKeys(keys)
	if err != nil {
		return nil, err
	}
	if err := t.storage.Store(ctx, ticketsKey, data); err != nil {
		return nil, err
	}
	t.log.Info("session tickets: made a new key", zap.String("key", keys[0].id), zap.Time("from", keys[0].from))
	return keys, nil
}

// unlock has time of its own, or a slow Store would leave the lock behind. Its
// error is nobody's: the lock has a lease.
func (t *tickets) unlock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ticketTimeout/4)
	defer cancel()
	_ = t.storage.Unlock(ctx, ticketsLock)
}

func (t *tickets) take(keys []ticketKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shared, t.read = keys, true
}

// report logs the beginning and the end of an outage.
func (t *tickets) report(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && t.away:
		t.log.Info("session tickets: the storage is back, and the keys with it")
	case err != nil && !t.away && !t.read:
		t.log.Warn("session tickets: no keys from the storage yet: until there are, clients that come back to another replica need a full handshake", zap.Error(err))
	case err != nil && !t.away:
		t.log.Warn("session tickets: the storage fails: the keys in use stay, there are no new ones", zap.Error(err))
	}
	t.away = err != nil
}

// apply gives every listener the keys in use, if they are not those that it has.
func (t *tickets) apply() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	keys := t.inUse()
	for _, k := range keys {
		ids = append(ids, k.id)
	}
	if slices.Equal(ids, t.applied) {
		return
	}
	t.applied = ids
	for _, a := range t.attached {
		if c := a.config.Value(); c != nil {
			c.SetSessionTicketKeys(deriveTicketKeys(keys, a.info))
		}
	}
}

// inUse returns the keys that open tickets, and first the one that seals. There
// is always one. It is called under t.mu.
func (t *tickets) inUse() []ticketKey {
	now := t.wall()
	t.own = aliveTicketKeys(t.own, now)
	shared := sealFirst(aliveTicketKeys(t.shared, now), now)
	if len(shared) == 0 && ticketKeyDue(t.own, now) {
		t.own = addTicketKey(t.own, now) // seals at once: nobody else has to learn of it
	}
	return slices.Concat(shared, t.own)
}

// forget drops the configurations that nobody uses any more. It is called under
// t.mu.
func (t *tickets) forget() {
	t.attached = slices.DeleteFunc(t.attached, func(a attachment) bool { return a.config.Value() == nil })
}

// wall is the time that ages are judged by. Without its monotonic part: that
// one stands still in a suspended machine, and follows no correction.
func (t *tickets) wall() time.Time { return t.now().Round(0) }
