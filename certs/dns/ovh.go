package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovh/go-ovh/ovh"
	"go.uber.org/zap"
)

// ovhcloud opens a client of OVH's library for every change. The library asks
// the API for the time once in a client's life and signs by that: a client that
// lives for months would be refused after the clock was set. It also writes to
// the HTTP client that it is given.
//
// The client is not made by ovh.NewClient, which reads OVH_* variables and
// ovh.conf in three places, and refuses keys that do not go together with them.
type ovhcloud struct {
	endpoint string
	settings Settings
	client   *http.Client
}

func openOVH(settings Settings, log *zap.Logger) (Provider, error) {
	endpoint, err := ovhEndpoint(settings["endpoint"])
	if err != nil {
		return nil, err
	}
	return newOVH(settings, log, newClient(), endpoint), nil
}

// ovhEndpoint takes one of OVH's names, or a URL.
func ovhEndpoint(setting string) (string, error) {
	if known, ok := ovh.Endpoints[setting]; ok {
		return known, nil
	}
	names := strings.Join(slices.Sorted(maps.Keys(ovh.Endpoints)), ", ")
	u, err := url.Parse(setting)
	if err != nil || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("endpoint is none of %s, and no URL", names)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && !(u.Scheme == "http" && ip != nil && ip.IsLoopback()) {
		return "", errors.New("endpoint has to begin with https://: the consumer key goes there")
	}
	return strings.TrimRight(setting, "/"), nil
}

func newOVH(settings Settings, log *zap.Logger, client *http.Client, endpoint string) *vendor {
	o := &ovhcloud{endpoint, settings, client}
	return &vendor{
		name:    "ovh",
		service: separate{o.open},
		lowest:  time.Minute,
		rights:  "application_key, application_secret and consumer_key have to belong together, to this endpoint, and to be granted GET, POST and DELETE on /domain/zone/*",
		secrets: []string{settings["application_secret"], settings["consumer_key"]}, pauses: pauses(), log: log,
	}
}

// An ovhName is a ledger.
type ovhName struct {
	client *ovh.Client
	path   string // of the zone
	at     change
}

func (o *ovhcloud) open(ctx context.Context, at change) (ledger, error) {
	own := *o.client
	own.Transport = &within{ctx, o.client.Transport}
	client := &ovh.Client{
		AppKey:      o.settings["application_key"],
		AppSecret:   o.settings["application_secret"],
		ConsumerKey: o.settings["consumer_key"],
		Client:      &own,
		Timeout:     callTimeout,
	}
	if err := client.SetEndpoint(o.endpoint); err != nil {
		return nil, err
	}
	return &ovhName{client, "/domain/zone/" + at.zone, at}, nil
}

// within ends requests with a context that the library does not hand on when it
// asks for the time. The context has to end, or each leaves something behind.
type within struct {
	ctx  context.Context
	next http.RoundTripper
}

func (w *within) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	context.AfterFunc(w.ctx, func() { cancel(context.Cause(w.ctx)) })
	return w.next.RoundTrip(request.WithContext(ctx))
}

// ovhRecord is a record as OVH writes it.
type ovhRecord struct {
	ID     int64  `json:"id,omitempty"`
	Type   string `json:"fieldType"`
	Name   string `json:"subDomain"` // empty for the zone itself
	Target string `json:"target"`
	TTL    int    `json:"ttl"`
}

func (o *ovhName) name() string { return strings.TrimPrefix(o.at.label, "@") }

// list asks for the numbers of records, then for one record after the other:
// there is no other way.
func (o *ovhName) list(ctx context.Context) (there []entry, err error) {
	var ids []int64
	query := url.Values{"fieldType": {"TXT"}, "subDomain": {o.name()}}
	err = refusedByOVH(o.client.GetWithContext(ctx, o.path+"/record?"+query.Encode(), &ids))
	if absent(err) {
		return nil, fmt.Errorf("%w: %w", errNoZone, err)
	}
	if err == nil && len(ids) > pageLimit {
		err = errPages
	}
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		var record ovhRecord
		err := refusedByOVH(o.client.GetWithContext(ctx, fmt.Sprintf("%s/record/%d", o.path, id), &record))
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// The filter is not trusted: what is listed may be deleted.
		if record.ID == id && record.Type == "TXT" && strings.EqualFold(record.Name, o.name()) {
			there = append(there, entry{strconv.FormatInt(id, 10), record.Target})
		}
	}
	return there, nil
}

func (o *ovhName) create(ctx context.Context, value string) error {
	var created ovhRecord
	err := o.client.PostWithContext(ctx, o.path+"/record", ovhRecord{Type: "TXT", Name: o.name(), Target: value, TTL: o.at.ttl}, &created)
	if err == nil && created.ID == 0 {
		return errForeign
	}
	return refusedByOVH(err)
}

func (o *ovhName) erase(ctx context.Context, e entry) error {
	if err := refusedByOVH(o.client.DeleteWithContext(ctx, o.path+"/record/"+e.id, nil)); !absent(err) {
		return err
	}
	return errGone
}

// publish makes OVH's servers load the zone.
func (o *ovhName) publish(ctx context.Context) error {
	return refusedByOVH(o.client.PostWithContext(ctx, o.path+"/refresh", nil, nil))
}

func refusedByOVH(err error) error {
	answer, ok := errors.AsType[*ovh.APIError](err)
	if !ok {
		return err
	}
	refused := &refusal{status: answer.Code, code: answer.Class, said: answer.Message}
	// A wrong application_secret is 400, and only the words tell.
	refused.denied = answer.Code == http.StatusBadRequest && strings.Contains(strings.ToLower(answer.Message), "signature")
	return refused
}
