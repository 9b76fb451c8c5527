package main

import (
	"fmt"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A collector is a log that keeps what is at least a warning, a sentence each,
// for check to print: certificates are judged by the same code as in run, and
// what that finds fault with it logs.
type collector struct {
	zapcore.LevelEnabler
	fields []zapcore.Field
	said   *[]string
}

func newCollector() collector {
	return collector{LevelEnabler: zap.WarnLevel, said: new([]string)}
}

func (c collector) With(fields []zapcore.Field) zapcore.Core {
	c.fields = slices.Concat(c.fields, fields)
	return c
}

func (c collector) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write takes from the fields what a person needs: the file, and what to do.
func (c collector) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(all)
	}
	said := e.Message
	if file, ok := all.Fields["cert_file"]; ok {
		said = fmt.Sprintf("%v: %s", file, said)
	}
	if remedy, ok := all.Fields["remedy"]; ok {
		said = fmt.Sprintf("%s; %v", said, remedy)
	}
	*c.said = append(*c.said, said)
	return nil
}

func (c collector) Sync() error { return nil }
