package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// cloudflare speaks to API v4 of Cloudflare by itself. Their library is made of
// a description of all that they sell, and the linker cannot leave out what we
// do not use: 18 MB, where everything else of smtpseal is 35 MB.
type cloudflare struct{ api }

// Codes of Cloudflare's API that mean something to us.
var (
	cloudflareThere  = []string{"81057", "81058"}                        // the same record exists
	cloudflareGone   = []string{"81044"}                                 // the record does not
	cloudflareDenied = []string{"6003", "6111", "9106", "9109", "10000"} // headers or token wrong, said with 400 as well as 403
)

// Sizes of pages: a shorter one is the last.
const (
	cloudflareZones   = 50 // the most that is allowed
	cloudflareRecords = 100
)

func openCloudflare(settings Settings, log *zap.Logger) (Provider, error) {
	return newCloudflare(settings, log, newClient(), "https://api.cloudflare.com/client/v4"), nil
}

func newCloudflare(settings Settings, log *zap.Logger, client *http.Client, base string) *vendor {
	token := settings["api_token"]
	c := &cloudflare{api{client: client, base: base, authorize: func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+token)
	}}}
	return &vendor{
		name:    "cloudflare",
		service: separate{c.open},
		lowest:  time.Minute,
		rights:  "api_token needs the permissions Zone:Read and DNS:Edit for this zone",
		secrets: []string{token}, pauses: pauses(), log: log,
	}
}

// A cloudflareName is a ledger.
type cloudflareName struct {
	*cloudflare
	path string // of the records of the zone
	at   change
}

// cloudflareRecord is a record as Cloudflare writes it.
type cloudflareRecord struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type"`
	Name    string `json:"name"` // absolute
	Content string `json:"content"`
	TTL     int    `json:"ttl"`
}

// open finds the identifier of a zone. One name can be there several times
// while it moves between accounts: then the active one counts.
func (c *cloudflare) open(ctx context.Context, at change) (ledger, error) {
	found := ""
	for page := 1; page <= pageLimit; page++ {
		var zones []struct{ ID, Name, Status string }
		query := url.Values{"name": {at.zone}, "page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(cloudflareZones)}}
		if err := c.call(ctx, http.MethodGet, "/zones?"+query.Encode(), nil, &zones); err != nil {
			return nil, err
		}
		for _, zone := range zones {
			if strings.EqualFold(zone.Name, at.zone) && zone.ID != "" && (found == "" || zone.Status == "active") {
				found = zone.ID
			}
		}
		if len(zones) < cloudflareZones {
			break
		}
	}
	if found == "" {
		return nil, errNoZone
	}
	return &cloudflareName{c, "/zones/" + url.PathEscape(found) + "/dns_records", at}, nil
}

func (c *cloudflareName) list(ctx context.Context) (there []entry, err error) {
	for page := 1; page <= pageLimit; page++ {
		var records []cloudflareRecord
		query := url.Values{"type": {"TXT"}, "name.exact": {c.at.fqdn}, "page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(cloudflareRecords)}}
		if err := c.call(ctx, http.MethodGet, c.path+"?"+query.Encode(), nil, &records); err != nil {
			return nil, err
		}
		for _, record := range records { // the filter is not trusted: what is listed may be deleted
			if record.Type == "TXT" && record.ID != "" && strings.EqualFold(record.Name, c.at.fqdn) {
				there = append(there, entry{record.ID, record.Content})
			}
		}
		if len(records) < cloudflareRecords {
			return there, nil
		}
	}
	return nil, errPages
}

func (c *cloudflareName) create(ctx context.Context, value string) error {
	var created cloudflareRecord
	err := c.call(ctx, http.MethodPost, c.path, cloudflareRecord{Type: "TXT", Name: c.at.fqdn, Content: quote(value), TTL: c.at.ttl}, &created)
	if refused, ok := errors.AsType[*refusal](err); ok && slices.Contains(cloudflareThere, refused.code) {
		return errThere
	}
	if err == nil && created.ID == "" {
		return errForeign
	}
	return err
}

func (c *cloudflareName) erase(ctx context.Context, e entry) error {
	err := c.call(ctx, http.MethodDelete, c.path+"/"+url.PathEscape(e.id), nil, nil)
	if refused, ok := errors.AsType[*refusal](err); ok && (absent(err) || slices.Contains(cloudflareGone, refused.code)) {
		return errGone
	}
	return err
}

func (c *cloudflareName) publish(context.Context) error { return nil }

// call is one request. Each answer is an envelope, which says whether it is good
// beside the status, and has a list where something is wrong.
func (c *cloudflare) call(ctx context.Context, method, path string, in, result any) error {
	request, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err // names method and URL
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", response.Status, err)
	}
	var answer struct {
		Success bool
		Errors  []struct {
			Code    int
			Message string
		}
		Result json.RawMessage
	}
	err = json.Unmarshal(body, &answer)
	switch good := response.StatusCode >= 200 && response.StatusCode <= 299; {
	case err == nil && len(answer.Errors) > 0:
		code := strconv.Itoa(answer.Errors[0].Code)
		return &refusal{status: response.StatusCode, code: code, said: answer.Errors[0].Message, denied: slices.Contains(cloudflareDenied, code)}
	case !good:
		return &refusal{status: response.StatusCode, said: string(body)}
	case err != nil || !answer.Success:
		return errForeign
	case result == nil:
		return nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	return nil
}
