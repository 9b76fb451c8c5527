package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A keyspace keeps everything under keys that begin with the prefix:
//
//	PREFIX:value:KEY  a string: time of change in Unix milliseconds, 13 digits, a
//	                  blank, the value. One string, so that one command replaces both
//	PREFIX:keys       a sorted set of all KEYs, every score 0, for ranges by name
//	PREFIX:lock:NAME  see redis_lock.go
//
// A value and its entry among the keys are changed in one transaction. It takes
// one server, or what stands for it as one address, Redis 6.2 or whatever speaks like
// it; not a cluster, whose transactions do not span slots, unless the prefix is in
// braces. The server must keep its data on disk, and evict no keys: storage is no
// cache.
type keyspace struct {
	client *redis.Client
	prefix string
	addr   string
}

const (
	stampLen = 14 // of the time and the blank
	// redisBatch is how many keys are deleted, or listed, at once, since Redis does
	// nothing else meanwhile.
	redisBatch = 500
	// redisConns is enough for a few supervisors at a time; servers count theirs.
	redisConns = 8
)

func openRedis(_ context.Context, o Options) (medium, error) {
	options, err := redisOptions(o.URL)
	if err != nil {
		return nil, err
	}
	// Every step may be repeated, so one repetition hides a connection that the
	// server had closed; a server that is away is the caller's to wait for.
	options.MaxRetries, options.DialerRetries = 1, 1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = callTime/2, callTime, callTime
	options.ContextTimeoutEnabled = true
	options.PoolSize, options.MaxActiveConns, options.PipelinePoolSize = redisConns, redisConns, -1
	// It logs, on standard error, what its calls return anyway; this is its only
	// switch, and one for the process. Nothing else here uses the client.
	redis.SetLogger(silence{})
	// What a user with few rights may not ask, and old servers do not know.
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &keyspace{redis.NewClient(options), o.Prefix, options.Addr}, nil
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func (k *keyspace) String() string { return "redis storage at " + k.addr + ", prefix " + k.prefix }

func (k *keyspace) close() error { return k.client.Close() }

func (k *keyspace) value(key string) string { return k.prefix + ":value:" + key }
func (k *keyspace) index() string           { return k.prefix + ":keys" }

func (k *keyspace) store(ctx context.Context, key string, value []byte) error {
	stamped := make([]byte, 0, stampLen+len(value))
	stamped = fmt.Appendf(stamped, "%0*d ", stampLen-1, time.Now().UnixMilli())
	stamped = append(stamped, value...)
	_, err := k.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Set(ctx, k.value(key), stamped, 0)
		tx.ZAdd(ctx, k.index(), redis.Z{Member: key})
		return nil
	})
	return k.explain(err)
}

// load asks for one octet more than there may be, and gets no more than that.
func (k *keyspace) load(ctx context.Context, key string) ([]byte, error) {
	stamped, err := k.client.GetRange(ctx, k.value(key), 0, stampLen+maxValue).Bytes()
	if err != nil {
		return nil, k.explain(err)
	}
	if len(stamped) == 0 {
		return nil, fs.ErrNotExist
	}
	if len(stamped) > stampLen+maxValue {
		return nil, errTooLong
	}
	if _, err := changed(stamped); err != nil {
		return nil, err
	}
	return stamped[stampLen:], nil
}

func changed(stamped []byte) (time.Time, error) {
	if len(stamped) >= stampLen && stamped[stampLen-1] == ' ' {
		if ms, err := strconv.ParseInt(string(stamped[:stampLen-1]), 10, 64); err == nil {
			return time.UnixMilli(ms), nil
		}
	}
	return time.Time{}, errors.New("the value was not written by smtpseal: delete it, or choose another storage.prefix")
}

func (k *keyspace) remove(ctx context.Context, key string) error {
	keys, err := k.keys(ctx, key)
	if err != nil {
		return err
	}
	// The key itself may be missing from the index if somebody has tidied up.
	keys = append(keys, key)
	for len(keys) > 0 {
		batch := keys[:min(len(keys), redisBatch)]
		keys = keys[len(batch):]
		if err := k.removeAll(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (k *keyspace) removeAll(ctx context.Context, keys []string) error {
	var values []string
	var members []any
	for _, key := range keys {
		values = append(values, k.value(key))
		members = append(members, key)
	}
	_, err := k.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Del(ctx, values...)
		tx.ZRem(ctx, k.index(), members...)
		return nil
	})
	return k.explain(err)
}

// keys goes through the index in batches, each beginning after the last one's
// end, so that what is there all the time is found.
func (k *keyspace) keys(ctx context.Context, prefix string) ([]string, error) {
	from, to := "-", "+"
	var keys []string
	if prefix != "" {
		if err := k.client.ZScore(ctx, k.index(), prefix).Err(); err == nil {
			keys = append(keys, prefix)
		} else if !errors.Is(err, redis.Nil) {
			return nil, k.explain(err)
		}
		from, to = "["+prefix+"/", "("+prefix+"0" // 0 comes after /
	}
	for {
		batch, err := k.client.ZRangeArgs(ctx, redis.ZRangeArgs{Key: k.index(), Start: from, Stop: to, ByLex: true, Count: redisBatch}).Result()
		if err != nil {
			return nil, k.explain(err)
		}
		keys = append(keys, batch...)
		if len(keys) > maxKeys {
			return nil, errTooMany
		}
		if len(batch) < redisBatch {
			return keys, nil
		}
		from = "(" + batch[len(batch)-1]
	}
}

func (k *keyspace) stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	var stamp, size, children = &redis.StringCmd{}, &redis.IntCmd{}, &redis.IntCmd{}
	_, err := k.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		stamp = tx.GetRange(ctx, k.value(key), 0, stampLen-1)
		size = tx.StrLen(ctx, k.value(key))
		children = tx.ZLexCount(ctx, k.index(), "["+key+"/", "("+key+"0")
		return nil
	})
	switch {
	case err != nil:
		return certmagic.KeyInfo{}, k.explain(err)
	case size.Val() > 0:
		at, err := changed([]byte(stamp.Val()))
		return certmagic.KeyInfo{Key: key, Modified: at, Size: size.Val() - stampLen, IsTerminal: true}, err
	case children.Val() > 0:
		return certmagic.KeyInfo{Key: key}, nil
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}
