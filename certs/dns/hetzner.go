package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"go.uber.org/zap"
)

// hetzner is the DNS of Hetzner's Cloud API (console.hetzner.com), not the
// older one of dns.hetzner.com: their tokens are different ones. It has RRsets,
// and actions of its own for adding to one and taking from one, so that nothing
// of others is written back.
type hetzner struct {
	zones   hcloud.ZoneClient
	actions hcloud.ActionClient
	poll    time.Duration // between two looks at an action
}

func openHetzner(settings Settings, log *zap.Logger) (Provider, error) {
	return newHetzner(settings, log, newClient(), hcloud.Endpoint), nil
}

func newHetzner(settings Settings, log *zap.Logger, client *http.Client, base string) *vendor {
	token := settings["api_token"]
	library := hcloud.NewClient(hcloud.WithToken(token), hcloud.WithEndpoint(base), hcloud.WithHTTPClient(client),
		hcloud.WithRetryOpts(hcloud.RetryOpts{MaxRetries: 0})) // its own are five, up to a minute apart
	return &vendor{
		name:    "hetzner",
		service: &hetzner{library.Zone, library.Action, time.Second},
		lowest:  time.Minute,
		rights:  "api_token has to be a token with Read & Write of the Cloud project that has this zone",
		secrets: []string{token}, pauses: pauses(), log: log,
	}
}

func (h *hetzner) add(ctx context.Context, wanted change) error {
	set, exists, err := h.look(ctx, wanted)
	if err != nil {
		return err
	}
	opts := hcloud.ZoneRRSetAddRecordsOpts{}
	for _, value := range wanted.values {
		if !slices.ContainsFunc(set.Records, func(r hcloud.ZoneRRSetRecord) bool { return unquote(r.Value) == value }) {
			opts.Records = append(opts.Records, hcloud.ZoneRRSetRecord{Value: quote(value)})
		}
	}
	if len(opts.Records) == 0 {
		return nil
	}
	if !exists { // another TTL than that of the set is an error
		opts.TTL = &wanted.ttl
	}
	action, response, err := h.zones.AddRRSetRecords(ctx, set, opts)
	if err == nil {
		err = h.finish(ctx, action)
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", wanted.fqdn, refusedByHetzner(response, err))
	}
	return nil
}

func (h *hetzner) remove(ctx context.Context, unwanted change) error {
	set, exists, err := h.look(ctx, unwanted)
	if err != nil || !exists {
		return err
	}
	var opts hcloud.ZoneRRSetRemoveRecordsOpts
	for _, record := range set.Records {
		if slices.Contains(unwanted.values, unquote(record.Value)) {
			opts.Records = append(opts.Records, hcloud.ZoneRRSetRecord{Value: record.Value}) // as it is there
		}
	}
	if len(opts.Records) == 0 {
		return nil
	}
	action, response, err := h.zones.RemoveRRSetRecords(ctx, set, opts)
	if err == nil {
		err = h.finish(ctx, action)
	}
	if err = refusedByHetzner(response, err); err != nil && !absent(err) { // absent: somebody was faster
		return fmt.Errorf("remove %s: %w", unwanted.fqdn, err)
	}
	return nil
}

// look finds the TXT RRset of a name, or one without records if there is none.
// The zone comes first, because both would be the same 404.
func (h *hetzner) look(ctx context.Context, at change) (set *hcloud.ZoneRRSet, exists bool, err error) {
	zone, response, err := h.zones.GetByName(ctx, at.zone)
	if err == nil && zone == nil {
		err = errNoZone
	}
	if err == nil && zone.Name != at.zone {
		err = errForeign
	}
	if err != nil {
		return nil, false, fmt.Errorf("find zone %s: %w", at.zone, refusedByHetzner(response, err))
	}
	set, response, err = h.zones.GetRRSetByNameAndType(ctx, zone, at.label, hcloud.ZoneRRSetTypeTXT)
	if err != nil {
		return nil, false, fmt.Errorf("read records of %s in zone %s: %w", at.fqdn, at.zone, refusedByHetzner(response, err))
	}
	if set == nil {
		return &hcloud.ZoneRRSet{Zone: zone, Name: at.label, Type: hcloud.ZoneRRSetTypeTXT}, false, nil
	}
	if set.Name != at.label || set.Type != hcloud.ZoneRRSetTypeTXT {
		return nil, false, fmt.Errorf("read records of %s in zone %s: %w", at.fqdn, at.zone, errForeign)
	}
	set.Zone = zone
	return set, true, nil
}

// finish waits until an action is done. The context bounds it.
func (h *hetzner) finish(ctx context.Context, action *hcloud.Action) error {
	for action.Status == hcloud.ActionStatusRunning {
		if err := sleep(ctx, h.poll); err != nil {
			return fmt.Errorf("wait for %s: %w", action.Command, err)
		}
		now, response, err := h.actions.GetByID(ctx, action.ID)
		if err = refusedByHetzner(response, err); err != nil && !passing(err) {
			return fmt.Errorf("wait for %s: %w", action.Command, err)
		}
		if err == nil && now == nil {
			return errForeign
		}
		if err == nil {
			action = now
		}
	}
	if action.Status != hcloud.ActionStatusSuccess {
		return &refusal{status: http.StatusOK, code: action.ErrorCode, said: "action " + string(action.Status) + ": " + action.ErrorMessage,
			again: action.ErrorCode == string(hcloud.ErrorCodeConflict)}
	}
	return nil
}

func refusedByHetzner(response *hcloud.Response, err error) error {
	if err == nil || response == nil || response.Response == nil {
		return err
	}
	if answer, ok := errors.AsType[hcloud.Error](err); ok {
		return &refusal{status: response.StatusCode, code: string(answer.Code), said: answer.Message,
			// The last one: another replica has added the same, which the next look shows.
			again: answer.Code == hcloud.ErrorCodeConflict || answer.Code == hcloud.ErrorCodeLocked || answer.Code == hcloud.ErrorCodeUniquenessError}
	}
	if errors.Is(err, hcloud.ErrStatusCode) { // no words of the API's with it
		return &refusal{status: response.StatusCode}
	}
	return err
}
