package main

import (
	"io"
	"time"

	"go.uber.org/zap/zapcore"
)

// A logBuffer gathers log lines for a moment: a write of its own for each
// session costs as much as all else that is said of it. What is worth a warning
// goes out at once, with all before it.
type logBuffer struct{ zapcore.BufferedWriteSyncer }

// gatherFor is how late a line may be, and what a process that is killed may
// lose of them; gatherSize bounds the memory.
const (
	gatherFor  = 250 * time.Millisecond
	gatherSize = 64 << 10
)

func newLogBuffer(w io.Writer) *logBuffer {
	return &logBuffer{zapcore.BufferedWriteSyncer{
		WS: zapcore.AddSync(struct{ io.Writer }{w}), Size: gatherSize, FlushInterval: gatherFor,
	}} // the writer's own Sync is hidden: a disk must not be waited for at every warning
}

// hurry is called for every line.
func (b *logBuffer) hurry(e zapcore.Entry) error {
	if e.Level < zapcore.WarnLevel {
		return nil
	}
	return b.Sync()
}
