package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

// Bounds of one AppendRecords or DeleteRecords at a vendor, beside those of a
// single call in rest.go.
const (
	vendorTimeout = 2 * time.Minute // repetitions and waits included: an order must not hang on a vendor
	pageLimit     = 100             // pages of one listing: an API that always names a next one would keep us
	textLimit     = 255             // octets of one string of a TXT record (RFC 1035 section 3.3)
)

// A vendor is a Provider on top of a service: what all those with a library of
// their own have in common. The libraries repeat nothing by themselves, some of
// them would do so for minutes: here is the only place that does.
type vendor struct {
	name    string // as in Providers
	service service
	lowest  time.Duration // TTL: below it the vendor refuses
	rights  string        // which setting gives access, and what it has to be allowed
	secrets []string      // settings: cut out of every error
	pauses  []time.Duration
	log     *zap.Logger
}

// A service changes the TXT records of one name at one vendor. Both calls look
// before they act, so that they can be repeated when an answer was lost.
type service interface {
	add(context.Context, change) error
	remove(context.Context, change) error
}

// A change is some values of one name. Names are in lower case, without a dot
// at the end.
type change struct {
	zone   string
	label  string // relative to the zone, "@" for the zone itself
	fqdn   string
	values []string // without quotes
	ttl    int      // seconds
}

// pauses before something is tried once more. A minute later the supervisor of
// the certificate begins again from the start.
func pauses() []time.Duration { return []time.Duration{time.Second, 3 * time.Second} }

func (v *vendor) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, v.each(ctx, zone, records, "added", v.service.add)
}

func (v *vendor) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, v.each(ctx, zone, records, "removed", v.service.remove)
}

// each does what is asked for name by name and stops at the first error.
func (v *vendor) each(ctx context.Context, zone string, records []libdns.Record, done string, do func(context.Context, change) error) error {
	ctx, cancel := context.WithTimeout(ctx, vendorTimeout)
	defer cancel()
	changes, err := v.changes(zone, records)
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	for _, c := range changes {
		if err := v.repeat(ctx, func() error { return do(ctx, c) }); err != nil {
			return v.explain(err)
		}
		v.log.Debug("challenge "+done, zap.String("name", c.fqdn), zap.String("zone", c.zone), zap.Int("values", len(c.values)))
	}
	return nil
}

// changes groups records by name: an RRset is one object at some vendors.
func (v *vendor) changes(zone string, records []libdns.Record) ([]change, error) {
	var changes []change
	place := map[string]int{}
	zone = strings.ToLower(strings.TrimSuffix(zone, "."))
	for _, record := range records {
		rr := record.RR()
		name := strings.ToLower(strings.TrimSuffix(libdns.AbsoluteName(rr.Name, zone), "."))
		if rr.Type != "TXT" || len(rr.Data) > textLimit || strings.ContainsFunc(rr.Data, unprintable) {
			return nil, fmt.Errorf("%s: only TXT records of at most %d printable characters can be written", name, textLimit)
		}
		if !plain(zone) || !plain(name) {
			return nil, fmt.Errorf("%q in zone %q is no name for a challenge", name, zone)
		}
		i, seen := place[name]
		if !seen {
			i, place[name] = len(changes), len(changes)
			changes = append(changes, change{zone: zone, label: label(name, zone), fqdn: name,
				ttl: int(max(rr.TTL, v.lowest) / time.Second)})
		}
		if !slices.Contains(changes[i].values, rr.Data) {
			changes[i].values = append(changes[i].values, rr.Data)
		}
	}
	return changes, nil
}

func label(name, zone string) string {
	if name == zone {
		return "@"
	}
	return strings.TrimSuffix(name, "."+zone)
}

// plain names can go into the path of a URL. A name may come out of the DNS, by
// a CNAME, and must not be able to point a call elsewhere.
func plain(name string) bool {
	return name != "" && !strings.HasPrefix(name, ".") && !strings.Contains(name, "..") &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
		})
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// quote and unquote are a TXT string's form in a zone file (RFC 1035
// section 5.1), which some vendors ask for and others only give back.
func quote(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

func unquote(text string) string {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return text
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(text[1 : len(text)-1])
}

// A refusal is an answer that is not the one asked for.
type refusal struct {
	status int    // of HTTP
	code   string // the vendor's own, or empty
	said   string // its words, or empty
	denied bool   // the credentials are wrong or allow too little, whatever the status
	again  bool   // it may go well when done again at once: a conflict, a limit per second
}

// Error is as long as the answer was: told makes it brief, after the secrets are
// out. The first half of a token would not be found any more.
func (r *refusal) Error() string {
	text := fmt.Sprintf("%d %s", r.status, http.StatusText(r.status))
	if r.code != "" {
		text += " (" + r.code + ")"
	}
	if r.said != "" {
		text += ": " + r.said
	}
	return text
}

// What vendors' answers can come to, beside refusals.
var (
	errNoZone  = errors.New("no such zone")
	errForeign = errors.New("answer is not the JSON of this API")
	errPages   = fmt.Errorf("listing has more than %d pages", pageLimit)
)

// repeat does step again when what went wrong is likely to pass.
func (v *vendor) repeat(ctx context.Context, step func() error) error {
	err := step()
	for _, pause := range v.pauses {
		if err == nil || ctx.Err() != nil || !passing(err) {
			break
		}
		v.log.Debug("vendor failed, trying once more", zap.String("error", v.told(err)), zap.Duration("pause", pause))
		if slept := sleep(ctx, pause); slept != nil {
			return fmt.Errorf("%w, after %w", slept, err)
		}
		err = step()
	}
	return err
}

// passing errors are those of the server's own, conflicts and broken
// connections. Not 429: newClient's transport has waited as long as it may,
// more would make it worse. Not a time-out either: three of them take too long.
func passing(err error) bool {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.again || refused.status >= 500
	}
	broken, ok := errors.AsType[*url.Error](err)
	return ok && !broken.Timeout()
}

// explain says whose error it is and what to do about it.
func (v *vendor) explain(err error) error {
	hint := ""
	refused, ok := errors.AsType[*refusal](err)
	switch {
	case errors.Is(err, errNoZone):
		hint = "the zone is not there, or these credentials do not see it: " + v.rights
	case ok && (refused.denied || refused.status == http.StatusUnauthorized || refused.status == http.StatusForbidden):
		hint = v.rights
	case ok && refused.status == http.StatusTooManyRequests:
		hint = "too many calls for this account: who else uses it?"
	case errors.Is(err, context.DeadlineExceeded):
		hint = "no answer in time: can this host reach the API?"
	}
	text := v.name + ": " + v.told(err)
	if hint != "" {
		text += ": " + hint
	}
	return &concealed{err, text}
}

// told is an error as people may read it: without secrets, and with no more of
// what others wrote than is useful.
func (v *vendor) told(err error) string {
	text := err.Error()
	if refused, ok := errors.AsType[*refusal](err); ok {
		said := refused.Error()
		text = strings.Replace(text, said, brief([]byte(v.hide(said))), 1)
	}
	text = v.hide(text)
	return text[:min(len(text), 4*messageLimit)]
}

func (v *vendor) hide(text string) string {
	return conceal(errors.New(text), v.secrets...).Error()
}
