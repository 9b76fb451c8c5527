package storage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// A lock is a key that has the owner's token and expires by the server's clock.
// Each step is a script, which the server runs alone. A failover to a replica
// that had not heard of the lock yet loses it: refresh finds out.
var (
	redisAcquire = redis.NewScript(`
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)
	redisRefresh = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)
	redisRelease = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

func (k *keyspace) lock(name string) []string { return []string{k.prefix + ":lock:" + name} }

func (k *keyspace) acquire(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	return k.run(redisAcquire.Run(ctx, k.client, k.lock(name), token, lease.Milliseconds()))
}

func (k *keyspace) refresh(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	return k.run(redisRefresh.Run(ctx, k.client, k.lock(name), token, lease.Milliseconds()))
}

func (k *keyspace) release(ctx context.Context, name, token string) (bool, error) {
	return k.run(redisRelease.Run(ctx, k.client, k.lock(name), token))
}

func (k *keyspace) run(answer *redis.Cmd) (bool, error) {
	n, err := answer.Int()
	return n == 1, k.explain(err)
}

// redisRemedies are what an operator can do, by the first word of the server's
// refusal.
var redisRemedies = map[string]string{
	"NOAUTH":    "it wants a password: put it into storage.url",
	"WRONGPASS": "user or password in storage.url are wrong",
	"NOPERM":    "its user needs ~PREFIX:* and the commands of strings, sorted sets, scripts and transactions (+@read +@write +@scripting +@transaction)",
	"READONLY":  "it is a replica: name the primary in storage.url",
	"OOM":       "its memory is full (maxmemory)",
	"MISCONF":   "it cannot write to its disk",
	"LOADING":   "it is starting",
	"MOVED":     "it is a cluster, which cannot be used: give a single server",
	"CROSSSLOT": "it is a cluster, which cannot be used: give a single server",
	"WRONGTYPE": "others use keys with this prefix: choose another storage.prefix",
}

// explain adds which server it was and what to do.
func (k *keyspace) explain(err error) error {
	if err == nil {
		return nil
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("redis: %w", err) // names the address
	}
	for word, remedy := range redisRemedies {
		if redis.HasErrorPrefix(err, word) {
			return fmt.Errorf("redis %s: %w: %s", k.addr, err, remedy)
		}
	}
	return fmt.Errorf("redis %s: %w", k.addr, err)
}
