package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"smtpseal/config"
	"smtpseal/proxy"
)

// newLog writes to w with the level and the form that the configuration asks
// for. The keys time, level and message are stable, and so are the units: a time
// is RFC 3339 with milliseconds, a duration is a number of seconds. Nothing is
// sampled: the line of a session is there for every session.
func newLog(w io.Writer, want config.Log) (*zap.Logger, error) {
	log, _, err := newLiveLog(w, want)
	return log, err
}

// newLiveLog is newLog for a log whose level and form a reload may change.
func newLiveLog(w io.Writer, want config.Log) (*zap.Logger, func(config.Log), error) {
	sink := zapcore.Lock(zapcore.AddSync(w))
	now := new(atomic.Pointer[zapcore.Core])
	change := func(want config.Log) error {
		level, err := zapcore.ParseLevel(want.Level)
		if err != nil {
			return fmt.Errorf("log level: %w", err)
		}
		core := zapcore.NewCore(encoder(w, want.Format), sink, level)
		now.Store(&core)
		return nil
	}
	if err := change(want); err != nil {
		return nil, nil, err
	}
	log := zap.New(liveCore{now, nil}, zap.ErrorOutput(sink))
	if b, ok := w.(*logBuffer); ok {
		log = log.WithOptions(zap.Hooks(b.hurry))
	}
	return log, func(want config.Log) { change(want) }, nil
}

// A liveCore passes on to the core that there is now, also for loggers that parts
// of the program have made of it long ago.
type liveCore struct {
	now    *atomic.Pointer[zapcore.Core]
	fields []zapcore.Field // of With
}

func (l liveCore) Enabled(level zapcore.Level) bool { return (*l.now.Load()).Enabled(level) }
func (l liveCore) Sync() error                      { return (*l.now.Load()).Sync() }

func (l liveCore) With(fields []zapcore.Field) zapcore.Core {
	return liveCore{l.now, slices.Concat(l.fields, fields)}
}

func (l liveCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return to.AddCore(e, l)
	}
	return to
}

func (l liveCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if len(l.fields) > 0 {
		fields = slices.Concat(l.fields, fields)
	}
	return (*l.now.Load()).Write(e, fields)
}

func encoder(w io.Writer, format string) zapcore.Encoder {
	keys := zapcore.EncoderConfig{
		TimeKey:        "time",
		LevelKey:       "level",
		NameKey:        "logger",
		MessageKey:     "message",
		EncodeTime:     zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00"),
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	}
	if format == "console" || format == "auto" && isTerminal(w) {
		keys.ConsoleSeparator = "  "
		return zapcore.NewConsoleEncoder(keys)
	}
	return zapcore.NewJSONEncoder(keys)
}

// isTerminal tells whether a person is likely to look at w.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	mode, err := file.Stat()
	return err == nil && mode.Mode()&os.ModeCharDevice != 0
}

// colourful reports whether colours may be used on w (https://no-color.org).
func colourful(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// starting is the first line of the log: what is about to run.
func starting(log *zap.Logger, c *config.Config) {
	var listeners []listenerField
	for _, l := range c.Listeners {
		listeners = append(listeners, listenerField(l))
	}
	var backends []backendField
	for _, b := range c.Backends {
		backends = append(backends, backendField(b))
	}
	log.Info("starting", zap.String("version", read().Version), zap.Int("pid", os.Getpid()),
		zap.Objects("listeners", listeners), zap.Objects("backends", backends))
	for _, warning := range c.Warnings() {
		log.Warn(warning)
	}
}

type listenerField config.Listener

func (l listenerField) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("name", l.Name)
	zap.Stringers("listen", l.Listen).AddTo(enc)
	enc.AddString("tls", l.Mode)
	enc.AddString("backend", l.Backend)
	return nil
}

type backendField config.Backend

func (b backendField) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("name", b.Name)
	zap.Stringers("servers", b.Servers).AddTo(enc)
	enc.AddString("proxy_protocol", b.ProxyProtocol)
	return nil
}

// stopped is the last line of the log: the sums of the lines of all sessions.
func stopped(log *zap.Logger, uptime time.Duration, t proxy.Totals) {
	log.Info("stopped", zap.Int("pid", os.Getpid()), zap.Duration("uptime", uptime),
		zap.Int64("sessions", sum(t.Sessions)), zap.Int64("messages", sum(t.Messages)),
		zap.Int64("bytes_in", sum(t.BytesIn)), zap.Int64("bytes_out", sum(t.BytesOut)),
		zap.Int64("violations", sum(t.Violations)))
}

func sum[K comparable](counts map[K]int64) int64 {
	var all int64
	for _, n := range counts {
		all += n
	}
	return all
}
