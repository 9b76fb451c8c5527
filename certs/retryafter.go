package certs

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A retryWatch notes for how long a CA that refuses asks to be left alone (RFC
// 8555 section 6.6). acmez drops the header from its errors, but tells it to its
// logger: so it is read there.
type retryWatch struct {
	mu    sync.Mutex
	until time.Time
}

// wait is what is left of it.
func (w *retryWatch) wait() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Until(w.until)
}

// listen returns a logger for one attempt, which passes everything on.
func (w *retryWatch) listen(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &retryCore{c, w} }))
}

type retryCore struct {
	zapcore.Core
	watch *retryWatch
}

func (c *retryCore) Enabled(zapcore.Level) bool { return true }

func (c *retryCore) With(fields []zapcore.Field) zapcore.Core {
	return &retryCore{c.Core.With(fields), c.watch}
}

func (c *retryCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return checked.AddCore(e, c)
}

func (c *retryCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.watch.note(fields)
	if passed := c.Core.Check(e, nil); passed != nil {
		passed.Write(fields...)
	}
	return nil
}

// note looks for an answer among the fields. Of several the last one counts.
func (w *retryWatch) note(fields []zapcore.Field) {
	var header http.Header
	status := int64(0)
	for _, f := range fields {
		switch f.Key {
		case "response_headers":
			header, _ = f.Interface.(http.Header)
		case "status_code":
			status = f.Integer
		}
	}
	if header == nil || status < 400 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = retryAfter(header.Get("Retry-After"), time.Now())
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
