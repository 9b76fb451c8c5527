package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	cfdns "github.com/cloudflare/cloudflare-go/v6/dns"
	"github.com/cloudflare/cloudflare-go/v6/option"
	"github.com/cloudflare/cloudflare-go/v6/zones"
	"go.uber.org/zap"
)

// cloudflare uses two packages of Cloudflare's library. Its root package would
// link all that they sell (10.7 MB and a minute of compiling) and reads
// CLOUDFLARE_* variables; these two do neither.
//
// The fields of the library's parameters are of a type that is internal to it,
// and the function that makes them is in the root package: hence the pairs of
// assignments.
type cloudflare struct {
	zones   *zones.ZoneService
	records *cfdns.RecordService
}

// Codes of Cloudflare's API that mean something to us.
var (
	cloudflareThere  = []string{"81057", "81058"}                        // the same record exists
	cloudflareGone   = []string{"81044"}                                 // the record does not
	cloudflareDenied = []string{"6003", "6111", "9106", "9109", "10000"} // headers or token wrong, said with 400 as well as 403
)

// Sizes of pages: a shorter one is the last. The library takes the next one
// without our context and goes on until one is empty.
const (
	cloudflareZones   = 50
	cloudflareRecords = 100
)

func openCloudflare(settings Settings, log *zap.Logger) (Provider, error) {
	return newCloudflare(settings, log, newClient(), "https://api.cloudflare.com/client/v4"), nil
}

func newCloudflare(settings Settings, log *zap.Logger, client *http.Client, base string) *vendor {
	token := settings["api_token"]
	options := []option.RequestOption{
		option.WithBaseURL(base), option.WithHTTPClient(client), option.WithAPIToken(token),
		option.WithMaxRetries(0), // its own are ten, each after a Retry-After of any length
		option.WithMiddleware(refuseCloudflare),
	}
	c := &cloudflare{zones.NewZoneService(options...), cfdns.NewRecordService(options...)}
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
	zone string // its identifier
	at   change
}

// open finds the identifier of a zone. One name can be there several times
// while it moves between accounts: then the active one counts.
func (c *cloudflare) open(ctx context.Context, at change) (ledger, error) {
	var params zones.ZoneListParams
	params.Name.Value, params.Name.Present = at.zone, true
	params.PerPage.Value, params.PerPage.Present = cloudflareZones, true
	zone := ""
	for page := 1; page <= pageLimit; page++ {
		params.Page.Value, params.Page.Present = float64(page), true
		answer, err := c.zones.List(ctx, params)
		if err != nil {
			return nil, err
		}
		if answer == nil {
			return nil, errForeign
		}
		for _, z := range answer.Result {
			if strings.EqualFold(z.Name, at.zone) && z.ID != "" && (zone == "" || z.Status == zones.ZoneStatusActive) {
				zone = z.ID
			}
		}
		if len(answer.Result) < cloudflareZones {
			break
		}
	}
	if zone == "" {
		return nil, errNoZone
	}
	return &cloudflareName{c, zone, at}, nil
}

func (c *cloudflareName) list(ctx context.Context) (there []entry, err error) {
	var params cfdns.RecordListParams
	params.ZoneID.Value, params.ZoneID.Present = c.zone, true
	params.Type.Value, params.Type.Present = cfdns.RecordListParamsTypeTXT, true
	params.Name.Present = true
	params.Name.Value.Exact.Value, params.Name.Value.Exact.Present = c.at.fqdn, true
	params.PerPage.Value, params.PerPage.Present = cloudflareRecords, true
	for page := 1; page <= pageLimit; page++ {
		params.Page.Value, params.Page.Present = float64(page), true
		answer, err := c.records.List(ctx, params)
		if err != nil {
			return nil, err
		}
		if answer == nil {
			return nil, errForeign
		}
		for _, record := range answer.Result { // the filter is not trusted: what is listed may be deleted
			if record.Type == "TXT" && strings.EqualFold(record.Name, c.at.fqdn) {
				there = append(there, entry{record.ID, record.Content})
			}
		}
		if len(answer.Result) < cloudflareRecords {
			return there, nil
		}
	}
	return nil, errPages
}

func (c *cloudflareName) create(ctx context.Context, value string) error {
	var record cfdns.TXTRecordParam
	record.Type.Value, record.Type.Present = cfdns.TXTRecordTypeTXT, true
	record.Name.Value, record.Name.Present = c.at.fqdn, true
	record.Content.Value, record.Content.Present = quote(value), true
	record.TTL.Value, record.TTL.Present = cfdns.TTL(c.at.ttl), true
	params := cfdns.RecordNewParams{Body: record}
	params.ZoneID.Value, params.ZoneID.Present = c.zone, true
	created, err := c.records.New(ctx, params)
	if refused, ok := errors.AsType[*refusal](err); ok && slices.Contains(cloudflareThere, refused.code) {
		return errThere
	}
	if err == nil && created.ID == "" { // the library reads what it can out of any JSON
		return errForeign
	}
	return err
}

func (c *cloudflareName) erase(ctx context.Context, e entry) error {
	var params cfdns.RecordDeleteParams
	params.ZoneID.Value, params.ZoneID.Present = c.zone, true
	_, err := c.records.Delete(ctx, e.id, params)
	if refused, ok := errors.AsType[*refusal](err); ok && (absent(err) || slices.Contains(cloudflareGone, refused.code)) {
		return errGone
	}
	return err
}

func (c *cloudflareName) publish(context.Context) error { return nil }

// refuseCloudflare reads refusals before the library does, whose error has no
// name outside of the root package and prints whole answers.
func refuseCloudflare(request *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	response, err := next(request)
	if err != nil || response.StatusCode < 400 {
		return response, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: read answer: %w", response.Status, err)
	}
	refused := &refusal{status: response.StatusCode, said: string(body)}
	var answer struct {
		Errors []struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Errors) > 0 {
		refused.code, refused.said = strconv.Itoa(answer.Errors[0].Code), answer.Errors[0].Message
		refused.denied = slices.Contains(cloudflareDenied, refused.code)
	}
	return nil, refused
}
