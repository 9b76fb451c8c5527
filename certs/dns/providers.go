// Package dns answers DNS-01 challenges (RFC 8555 section 8.4): it finds where
// the TXT record of a name has to be, has a provider write it there, waits
// until those who are asked can see it, and removes it afterwards.
//
// A Solver does all that is the same everywhere; a Provider only adds and
// removes records. Which providers there are is written in one table,
// Providers; nothing registers itself.
//
// Nothing secret (tokens, passwords, TSIG keys) gets into an error or a log
// line. The value of a challenge is no secret: it is published.
package dns

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

// A Provider adds and removes records of zones, safe for use by several
// goroutines at once.
//
// The zone is absolute ("example.org."), the names of records are relative to
// it ("_acme-challenge.mail", "@"), the text of a TXT record is without quotes.
// AppendRecords leaves other records of the same name alone: the challenges of
// example.org and *.example.org are two values of one name. Adding what is there
// already, and deleting what is not, are no errors. DeleteRecords compares name,
// type and value, not the TTL, which some vendors change. Both return the
// records that they were given.
type Provider interface {
	libdns.RecordAppender
	libdns.RecordDeleter
}

// Settings are the keys of one provider, secrets as they are. A list is made
// by List.
type Settings map[string]string

// List makes one setting of several arguments: a program with its own.
// NUL separates them, which no argument of a program can contain (execve(2)).
func List(args ...string) string { return strings.Join(args, "\x00") }

// list undoes List.
func (s Settings) list(key string) []string {
	if s[key] == "" {
		return nil
	}
	return strings.Split(s[key], "\x00")
}

// A Key is one setting that a provider knows.
type Key struct {
	Name     string
	Required bool
	Secret   bool // may be a reference in the configuration, is never shown
}

// A Kind is a sort of provider.
type Kind struct {
	Keys []Key
	open func(Settings, *zap.Logger) (Provider, error)
}

// Providers are all that are compiled in, by their name in acme.dns.provider.
var Providers = map[string]Kind{
	"acmedns":      {[]Key{{"url", true, false}, {"username", true, false}, {"password", true, true}, {"subdomain", true, false}}, openACMEDNS},
	"cloudflare":   {[]Key{{"api_token", true, true}}, openCloudflare},
	"digitalocean": {[]Key{{"auth_token", true, true}}, openDigitalOcean},
	"exec":         {[]Key{{"command", true, false}, {"timeout", false, false}}, openExec},
	"hetzner":      {[]Key{{"api_token", true, true}}, openHetzner},
	"httpreq":      {[]Key{{"endpoint", true, false}, {"username", false, false}, {"password", false, true}}, openHTTPReq},
	"ovh": {[]Key{{"endpoint", true, false}, {"application_key", true, false}, {"application_secret", true, true},
		{"consumer_key", true, true}}, openOVH},
	"rfc2136": {[]Key{{"nameserver", true, false}, {"tsig_name", false, false}, {"tsig_algorithm", false, false},
		{"tsig_secret", false, true}, {"zone", false, false}}, openRFC2136},
	"route53": {[]Key{{"access_key_id", false, false}, {"secret_access_key", false, true}, {"session_token", false, true},
		{"region", false, false}, {"hosted_zone_id", false, false}}, openRoute53},
}

// Open makes a provider ready. It speaks to nobody: a server that is away, or
// a token that is wrong, shows at the first record.
func Open(name string, settings Settings, log *zap.Logger) (Provider, error) {
	kind, ok := Providers[name]
	if !ok {
		return nil, fmt.Errorf("no provider %q: use one of %s", name, strings.Join(slices.Sorted(maps.Keys(Providers)), ", "))
	}
	if log == nil {
		log = zap.NewNop()
	}
	if err := kind.check(settings); err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	provider, err := kind.open(settings, log.With(zap.String("provider", name)))
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return provider, nil
}

// check finds settings that this kind does not know and required ones that are
// empty, all of them at once.
func (k Kind) check(settings Settings) error {
	var wrong []error
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if !slices.ContainsFunc(k.Keys, func(known Key) bool { return known.Name == key }) {
			wrong = append(wrong, fmt.Errorf("unknown key %s", key))
		}
	}
	for _, key := range k.Keys {
		if key.Required && settings[key.Name] == "" {
			wrong = append(wrong, fmt.Errorf("%s is missing", key.Name))
		}
	}
	return errors.Join(wrong...)
}
