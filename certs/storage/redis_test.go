package storage

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"smtpseal/test/redis"
)

// inRedis opens a store with testLease under a prefix of its own.
func inRedis(t *testing.T, rawURL string) Store {
	return opener(Options{Type: "redis", URL: rawURL, Prefix: t.Name()})(t)
}

func TestRedisStoppedAndStartedLosesNothing(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	for name, end := range map[string]func() error{"stop": server.Stop, "crash": server.Crash} {
		t.Run(name, func(t *testing.T) {
			s, other, ctx := inRedis(t, server.URL()), inRedis(t, server.URL()), t.Context()
			must(t, s.Store(ctx, "kept/value", []byte("x")))
			must(t, s.Lock(ctx, "held"))
			waited := make(chan error, 1)
			go func() { waited <- other.Lock(ctx, "held") }()
			must(t, end())
			time.Sleep(testLease / 4)
			if _, err := s.Load(ctx, "kept/value"); err == nil || !strings.Contains(err.Error(), server.Addr()) {
				t.Errorf("load without a server: %v", err)
			}
			must(t, server.Again())
			select {
			case err := <-waited:
				t.Errorf("the lock went over to the other: %v", err)
			case <-time.After(testLease): // refreshed in this time, or lost
			}
			must(t, s.Unlock(ctx, "held"))
			must(t, <-waited)
			if got, err := s.Load(ctx, "kept/value"); err != nil || string(got) != "x" {
				t.Errorf("afterwards: %q, %v", got, err)
			}
			must(t, other.Unlock(ctx, "held"))
		})
	}
}

func TestRedisAwayAtOpen(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	must(t, server.Stop())
	s, ctx := inRedis(t, server.URL()), t.Context()
	began := time.Now()
	for step, err := range everyCall(ctx, s) {
		if err == nil || !strings.Contains(err.Error(), server.Addr()) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v", step, err)
		}
	}
	if d := time.Since(began); d > callTime {
		t.Errorf("refusals took %v", d)
	}
	must(t, server.Again())
	// The client asks once a second whether a server is back that was away often.
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := s.Store(ctx, "a", []byte("x"))
		if err == nil {
			return
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal(err)
		}
	}
}

// everyCall makes all calls but Lock, which waits for the server.
func everyCall(ctx context.Context, s Store) map[string]error {
	_, loaded := s.Load(ctx, "a")
	_, stated := s.Stat(ctx, "a")
	_, listed := s.List(ctx, "a", true)
	_, tried := s.TryLock(ctx, "a")
	return map[string]error{
		"load": loaded, "stat": stated, "list": listed, "try lock": tried, "store": s.Store(ctx, "a", nil), "delete": s.Delete(ctx, "a"),
	}
}

func TestRedisFrozenIsTold(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	s := inRedis(t, server.URL())
	must(t, s.Store(t.Context(), "a", []byte("x")))
	server.Freeze()
	defer server.Thaw()
	began := time.Now()
	_, err := s.Load(soon(t, 300*time.Millisecond), "a")
	if err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if err := s.Lock(soon(t, 300*time.Millisecond), "a"); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestRedisTellsWhatIsWrongWithoutThePassword(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	good, err := url.Parse(server.URL())
	must(t, err)
	wrong, _ := url.Parse(server.URL())
	wrong.User = url.UserPassword("default", redis.Password+"x")
	none := url.URL{Scheme: "redis", Host: server.Addr()}
	for name, c := range map[string]struct{ url, says string }{
		"wrong password": {wrong.String(), "user or password in storage.url are wrong"},
		"no password":    {none.String(), "put it into storage.url"},
	} {
		s := inRedis(t, c.url)
		for step, err := range everyCall(t.Context(), s) {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %s: %v", name, step, err)
			}
			secretFree(t, err)
		}
		secretFree(t, s)
	}
	secretFree(t, Options{Type: "redis", URL: good.String(), EncryptionKey: testKey})
}

// secretFree fails if a value shows a part of a secret, however it is formatted.
func secretFree(t *testing.T, v any) {
	t.Helper()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		shown := fmt.Sprintf(format, v)
		for _, part := range []string{"h1dden", "p@ss", "p%40ss", "word%", testKey} {
			if strings.Contains(shown, part) {
				t.Errorf("%s shows %q: %s", format, part, shown)
			}
		}
	}
}

func TestRedisURLIsChecked(t *testing.T) {
	for raw, says := range map[string]string{
		"":                                      "set storage.url",
		"localhost:6379":                        "no URL", // a scheme named localhost
		"postgres://u:h1dden@host/db":           "not Redis's",
		"redis:///0":                            "no host",
		"redis://u:h1dden@host/zero":            "database",
		"redis://u:h1dden@host:port/":           "no URL",
		"redis://u:h1dden/p@ss@host/0":          "no URL",
		"redis://u:12/h1dden@host/0":            "%2F",
		"redis://u:12?h1dden@host/0":            "%2F",
		"redis://u:12#h1dden@host/0":            "%2F",
		"redis://u:h1dden%zz@host/0":            "%2F",
		"redis://u:h1dden@host/0?no_such_thing": "no_such_thing",
	} {
		_, err := Open(t.Context(), Options{Type: "redis", URL: raw})
		if err == nil || (!strings.Contains(err.Error(), says) && says != "no URL") || !strings.Contains(err.Error(), "storage.url") {
			t.Errorf("%s: %v", raw, err)
		}
		secretFree(t, err)
	}
}

func TestRedisPrefixesAreApart(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	one := opener(Options{Type: "redis", URL: server.URL(), Prefix: "one"})(t)
	two := opener(Options{Type: "redis", URL: server.URL(), Prefix: "two"})(t)
	must(t, one.Store(t.Context(), "a/b", []byte("x")))
	must(t, one.Lock(t.Context(), "l"))
	if two.Exists(t.Context(), "a/b") || !tryLock(t, two, "l") {
		t.Error("they are not")
	}
	must(t, two.Delete(t.Context(), "a"))
	if !one.Exists(t.Context(), "a/b") {
		t.Error("one deletes the other's")
	}
}

func TestRedisListsMoreThanABatch(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	s, ctx := inRedis(t, server.URL()), t.Context()
	const many = 2*redisBatch + 7
	for i := range many {
		must(t, s.Store(ctx, fmt.Sprintf("many/%d", i), []byte("x")))
	}
	if got, err := s.List(ctx, "many", true); err != nil || len(got) != many {
		t.Errorf("%d listed, %v", len(got), err)
	}
	must(t, s.Delete(ctx, "many"))
	if s.Exists(ctx, "many") {
		t.Error("some are left")
	}
}

// What others have put there is neither used nor read into memory.
func TestRedisRefusesWhatItHasNotWritten(t *testing.T) {
	server := redis.Start(t, redis.Config{})
	s, ctx := inRedis(t, server.URL()), t.Context()
	client := s.(*store).medium.(plain).medium.(*keyspace)
	for key, value := range map[string]string{"foreign": "something else", "large": strings.Repeat("x", maxValue+stampLen+1)} {
		must(t, client.client.Set(ctx, client.value(key), value, 0).Err())
		if got, err := s.Load(ctx, key); err == nil || !strings.Contains(err.Error(), "not written by smtpseal") {
			t.Errorf("%s: %d octets, %v", key, len(got), err)
		}
	}
	must(t, client.client.LPush(ctx, client.value("list"), "x").Err())
	if _, err := s.Load(ctx, "list"); err == nil || !strings.Contains(err.Error(), "storage.prefix") {
		t.Error(err)
	}
}
