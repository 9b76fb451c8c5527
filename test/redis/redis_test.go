package redis

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

func client(t *testing.T, s *Server) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDataOutlivesStopAndCrash(t *testing.T) {
	s := Start(t, Config{})
	for name, end := range map[string]func() error{"stop": s.Stop, "crash": s.Crash} {
		if err := client(t, s).Set(t.Context(), name, "kept", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := client(t, s).Ping(t.Context()).Err(); err == nil {
			t.Fatalf("%s: it still answers", name)
		}
		if err := s.Again(); err != nil {
			t.Fatal(err)
		}
		if got, err := client(t, s).Get(t.Context(), name).Result(); got != "kept" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPasswordIsWanted(t *testing.T) {
	s := Start(t, Config{})
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	if err := c.Ping(t.Context()).Err(); !redis.HasErrorPrefix(err, "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
}
