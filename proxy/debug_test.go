package proxy

import (
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// The log's level may change with the settings: verbs and codes are there for
// the sessions that come after it.
func TestTheLevelOfTheLogIsTheSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Opportunistic, agreeable)
		defer s.close()
		level := zap.NewAtomicLevel()
		core, logs := observer.New(zapcore.DebugLevel)
		limited, err := zapcore.NewIncreaseLevelCore(core, level)
		if err != nil {
			t.Fatal(err)
		}
		s.server.Log = zap.New(limited)
		for _, c := range []struct {
			level zapcore.Level
			lines int // command and reply
		}{{zapcore.InfoLevel, 0}, {zapcore.DebugLevel, 2}, {zapcore.InfoLevel, 0}} {
			level.SetLevel(c.level)
			s.apply(func(*Settings) {})
			conn := s.connect()
			expect(t, conn, "220 mta\r\n")
			ask(t, conn, "NOOP\r\n", "250 ok\r\n")
			conn.Close()
			<-s.records
			synctest.Wait()
			if all := logs.TakeAll(); len(all) < c.lines || c.lines == 0 && len(all) > 0 {
				t.Errorf("at %s: %v", c.level, all)
			}
		}
	})
}
