package certs

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A watch notes of one attempt what acmez tells to its logger alone: for how long
// a CA that refuses asks to be left alone (RFC 8555 section 6.6), and which
// challenge it set.
type watch struct {
	mu        sync.Mutex
	until     time.Time
	challenge string
}

// tried is the challenge that was tried last; empty if there was none.
func (w *watch) tried() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.challenge
}

// wait is what is left of the time that the CA asks for.
func (w *watch) wait() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Until(w.until)
}

// listen returns a logger for one attempt, which passes everything on.
func (w *watch) listen(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &watchCore{c, w} }))
}

type watchCore struct {
	zapcore.Core
	watch *watch
}

func (c *watchCore) Enabled(zapcore.Level) bool { return true }

func (c *watchCore) With(fields []zapcore.Field) zapcore.Core {
	return &watchCore{c.Core.With(fields), c.watch}
}

func (c *watchCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

func (c *watchCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.watch.note(fields)
	if passed := c.Core.Check(e, nil); passed != nil {
		passed.Write(fields...)
	}
	return nil
}

// note looks for an answer of the CA, or a challenge, among the fields. Of
// several the last one counts.
func (w *watch) note(fields []zapcore.Field) {
	var header http.Header
	status := int64(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range fields {
		switch f.Key {
		case "response_headers":
			header, _ = f.Interface.(http.Header)
		case "status_code":
			status = f.Integer
		case "challenge_type":
			w.challenge = f.String
		}
	}
	if header != nil && status >= 400 {
		w.until = retryAfter(header.Get("Retry-After"), time.Now())
	}
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(value string, now time.Time) time.Time {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return now.Add(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return time.Time{}
	}
	return at
}
