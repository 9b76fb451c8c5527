package dns

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/godo"
	"go.uber.org/zap"
)

// digitalocean calls a zone a domain, and has its name in the path of a call:
// there is nothing to look up before.
type digitalocean struct{ domains godo.DomainsService }

func openDigitalOcean(settings Settings, log *zap.Logger) (Provider, error) {
	return newDigitalOcean(settings, log, newClient(), "https://api.digitalocean.com/")
}

func newDigitalOcean(settings Settings, log *zap.Logger, client *http.Client, base string) (*vendor, error) {
	token := settings["auth_token"]
	// Not godo.NewFromToken, which brings a client of its own that repeats.
	library, err := godo.New(client, godo.SetBaseURL(base),
		godo.SetRequestHeaders(map[string]string{"Authorization": "Bearer " + token}))
	if err != nil {
		return nil, conceal(err, token)
	}
	return &vendor{
		name:    "digitalocean",
		service: separate{(&digitalocean{library.Domains}).open},
		lowest:  30 * time.Second,
		rights:  "auth_token needs the scopes domain:read, domain:create and domain:delete",
		secrets: []string{token}, pauses: pauses(), log: log,
	}, nil
}

// A digitaloceanName is a ledger.
type digitaloceanName struct {
	*digitalocean
	at change
}

func (d *digitalocean) open(_ context.Context, at change) (ledger, error) {
	return &digitaloceanName{d, at}, nil
}

func (d *digitaloceanName) list(ctx context.Context) (there []entry, err error) {
	for page := 1; page <= pageLimit; page++ {
		records, response, err := d.domains.RecordsByTypeAndName(ctx, d.at.zone, "TXT", d.at.fqdn, &godo.ListOptions{Page: page, PerPage: 200})
		if err := refusedByDigitalOcean(err); absent(err) {
			return nil, fmt.Errorf("%w: %w", errNoZone, err)
		} else if err != nil {
			return nil, err
		}
		for _, record := range records { // the filter is not trusted: what is listed may be deleted
			if record.Type == "TXT" && strings.EqualFold(record.Name, d.at.label) {
				there = append(there, entry{strconv.Itoa(record.ID), record.Data})
			}
		}
		if response.Links == nil || response.Links.IsLastPage() {
			return there, nil
		}
	}
	return nil, errPages
}

func (d *digitaloceanName) create(ctx context.Context, value string) error {
	created, _, err := d.domains.CreateRecord(ctx, d.at.zone,
		&godo.DomainRecordEditRequest{Type: "TXT", Name: d.at.label, Data: value, TTL: d.at.ttl})
	if err == nil && (created == nil || created.ID == 0) {
		return errForeign
	}
	return refusedByDigitalOcean(err)
}

func (d *digitaloceanName) erase(ctx context.Context, e entry) error {
	id, err := strconv.Atoi(e.id)
	if err != nil {
		return err
	}
	_, err = d.domains.DeleteRecord(ctx, d.at.zone, id)
	if err := refusedByDigitalOcean(err); !absent(err) {
		return err
	}
	return errGone
}

func (d *digitaloceanName) publish(context.Context) error { return nil }

func refusedByDigitalOcean(err error) error {
	answer, ok := errors.AsType[*godo.ErrorResponse](err)
	if !ok {
		return err
	}
	return &refusal{status: answer.Response.StatusCode, said: answer.Message}
}
