package storage

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"smtpseal/test/redis"
)

const testKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// opener opens o again and again, for a test.
func opener(o Options) func(*testing.T) Store {
	o.Lease = testLease
	return func(t *testing.T) Store {
		t.Helper()
		s, err := Open(t.Context(), o)
		must(t, err)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

// kinds are all stores that can be shared by processes, plain and encrypted.
// Each test gets a place of its own.
func kinds(t *testing.T, test func(*testing.T, Options)) {
	server := redis.Start(t, redis.Config{})
	for name, options := range map[string]func(*testing.T) Options{
		"file":  func(t *testing.T) Options { return Options{Type: "file", Path: t.TempDir()} },
		"redis": func(t *testing.T) Options { return Options{Type: "redis", URL: server.URL(), Prefix: t.Name()} },
	} {
		for _, key := range []string{"", testKey} {
			if key != "" {
				name += "+encryption"
			}
			t.Run(name, func(t *testing.T) {
				o := options(t)
				o.EncryptionKey, o.Lease = key, testLease
				test(t, o)
			})
		}
	}
}

func TestConformance(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) { conform(t, opener(o)) })
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	kinds(t, func(t *testing.T, o Options) {
		before := runtime.NumGoroutine()
		s, err := Open(t.Context(), o)
		must(t, err)
		must(t, s.Store(t.Context(), "a/b", []byte("x")))
		must(t, s.Lock(t.Context(), "held"))
		must(t, s.Lock(t.Context(), "freed"))
		must(t, s.Unlock(t.Context(), "freed"))
		must(t, s.Close())
		for range 100 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	})
}

func TestTypeUnknownIsToldWhichThereAre(t *testing.T) {
	_, err := Open(t.Context(), Options{Type: "etcd"})
	if err == nil || !strings.Contains(err.Error(), "file") || !strings.Contains(err.Error(), "redis") {
		t.Error(err)
	}
}
