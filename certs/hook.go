package certs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// An EventKind says what happened to a certificate.
type EventKind string

const (
	EventObtained EventKind = "obtained" // the first one for its name
	EventRenewed  EventKind = "renewed"
	EventFailed   EventKind = "failed"   // an attempt; the last good one is served meanwhile
	EventExpiring EventKind = "expiring" // and nothing that was tried helped
)

// An Event is what a hook is told. NotAfter is zero and Serial empty where
// there is no certificate yet.
type Event struct {
	Kind     EventKind
	Name     string // the DNS name or address of the certificate
	KeyType  string // p256, rsa2048 …
	Issuer   string
	Serial   string // hexadecimal
	NotAfter time.Time
	Error    string // of EventFailed
}

// A Hook is who is told: a command and its arguments, a URL, both, or nobody.
type Hook struct {
	Command []string // run without a shell
	URL     string   // may hold a token: String shows the host only
}

func (h Hook) String() string {
	var to []string
	if len(h.Command) > 0 {
		to = append(to, filepath.Base(h.Command[0]))
	}
	if h.URL != "" {
		to = append(to, urlHost(h.URL))
	}
	return strings.Join(to, " and ")
}

// GoString keeps the token out of %#v as well.
func (h Hook) GoString() string { return "certs.Hook{" + h.String() + "}" }

const (
	// hookQueue bounds what waits behind a hook that is slow, when a CA's
	// outage makes thousands of names fail at once.
	hookQueue = 64

	// hookLastWords bounds what a shutdown waits for: systemd and Kubernetes
	// kill after 90 s and 30 s, of which the sessions need most.
	hookLastWords = 5 * time.Second

	// hookError bounds an event's text: the kernel refuses to start a command
	// with a variable of 128 KiB, and a CA's answer can be of any length.
	hookError = 2048
)

// A hook delivers events in their order, one after the other. The nil hook is
// silent.
type hook struct {
	Hook
	log  *zap.Logger
	wake chan struct{} // holds a token while there may be something to deliver

	commandTime, lastWords time.Duration
	pauses                 []time.Duration // between the tries of a POST

	mu      sync.Mutex
	queue   []Event
	dropped int // since this was last said
}

// newHook returns nil for a Hook that names nobody.
func newHook(h Hook, log *zap.Logger) *hook {
	if len(h.Command) == 0 && h.URL == "" {
		return nil
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &hook{Hook: h, log: log.With(zap.Stringer("hook", h)), wake: make(chan struct{}, 1),
		commandTime: hookCommandTime, lastWords: hookLastWords, pauses: hookPauses[:]}
}

// tell queues an event and returns at once. When there is no room the oldest
// goes, for the newest says how things are.
func (h *hook) tell(e Event) {
	if h == nil {
		return
	}
	e.Error = bounded(e.Error, hookError)
	h.mu.Lock()
	if len(h.queue) == hookQueue {
		h.queue = h.queue[1:]
		h.dropped++
	}
	h.queue = append(h.queue, e)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// bounded cuts a text, and takes out what no environment variable may hold.
func bounded(s string, limit int) string {
	s = strings.ReplaceAll(s, "\x00", "")
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}

// run delivers until ctx ends, then what is queued, for a few seconds at most.
// What is being delivered when ctx ends has the same time.
func (h *hook) run(ctx context.Context) {
	if h == nil {
		return
	}
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(h.lastWords, cancel) })
	defer stop()
	for {
		select {
		case <-h.wake:
			h.deliverAll(last)
		case <-ctx.Done():
			h.deliverAll(last)
			if left := h.left(); left > 0 {
				h.log.Warn("certificate events not delivered: shutting down", zap.Int("events", left))
			}
			return
		}
	}
}

func (h *hook) deliverAll(ctx context.Context) {
	for ctx.Err() == nil {
		e, dropped, ok := h.next()
		if dropped > 0 {
			h.log.Warn("certificate events dropped: the hook is slower than they come", zap.Int("events", dropped),
				zap.String("remedy", "let the hook return sooner"))
		}
		if !ok {
			return
		}
		h.deliver(ctx, e)
	}
}

func (h *hook) next() (e Event, dropped int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	dropped, h.dropped = h.dropped, 0
	if len(h.queue) == 0 {
		return Event{}, dropped, false
	}
	e, h.queue = h.queue[0], h.queue[1:]
	return e, dropped, true
}

func (h *hook) left() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queue)
}

func (h *hook) deliver(ctx context.Context, e Event) {
	log := h.log.With(zap.String("event", string(e.Kind)), zap.String("name", e.Name))
	if len(h.Command) > 0 {
		if lastLine, err := h.runCommand(ctx, e); err != nil {
			log.Warn("hook failed", zap.Error(err), zap.String("output", lastLine))
		}
	}
	if h.URL != "" {
		if err := h.post(ctx, e); err != nil {
			log.Warn("hook failed", zap.Error(err))
		}
	}
	log.Debug("hook told")
}

// notAfter is RFC 3339, or empty where there is no certificate.
func (e Event) notAfter() string {
	if e.NotAfter.IsZero() {
		return ""
	}
	return e.NotAfter.UTC().Format(time.RFC3339)
}

// MarshalJSON spells an event as hooks read it, on standard input or as the
// body of a POST. Every field is always there.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Event    EventKind `json:"event"`
		Name     string    `json:"name"`
		KeyType  string    `json:"key_type"`
		Issuer   string    `json:"issuer"`
		Serial   string    `json:"serial"`
		NotAfter string    `json:"not_after"`
		Error    string    `json:"error"`
	}{e.Kind, e.Name, e.KeyType, e.Issuer, e.Serial, e.notAfter(), e.Error})
}

// urlHost is all of a URL that may be shown: the path, the query or the user
// may hold a token.
func urlHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "a URL that cannot be read"
	}
	return u.Host
}

// withoutURL takes the URL out of an error of net/http.
func withoutURL(raw string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%s: %w", urlHost(raw), err)
}
