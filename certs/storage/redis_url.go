package storage

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

const redisForm = "write redis://USER:PASSWORD@HOST:6379/0, or rediss:// for TLS, or unix:///PATH"

// redisOptions reads storage.url. No error quotes what may be a part of the
// password, and an unescaped one may turn up anywhere in a URL: in the host, the
// path, the query.
func redisOptions(raw string) (*redis.Options, error) {
	if raw == "" {
		return nil, errors.New("no server: set storage.url: " + redisForm)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@") {
		return nil, errors.New("storage.url is no URL: " + redisForm + `; octets of the password like / ? # @ % must be written as %2F and so on`)
	}
	switch u.Scheme {
	case "redis", "rediss":
		if u.Hostname() == "" {
			return nil, errors.New("storage.url has no host: " + redisForm)
		}
	case "unix":
	default:
		return nil, errors.New("storage.url is not Redis's: " + redisForm)
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, fmt.Errorf("storage.url: %s: %s", withoutSecrets(u), redisForm)
	}
	return o, nil
}

// withoutSecrets is what the parser says of the URL without user and password.
func withoutSecrets(u *url.URL) string {
	bare := *u
	bare.User = nil
	if _, err := redis.ParseURL(bare.String()); err != nil {
		return strings.TrimPrefix(err.Error(), "redis: ")
	}
	return "user or password cannot be read"
}
