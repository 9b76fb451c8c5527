package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

// An acmeDNS is an account at an acme-dns server, a name server for nothing but
// challenges: its credentials can change one TXT record, to which a CNAME of the
// real zone leads. It keeps the last two values of that record and removes none,
// so two names can be under way at a time.
type acmeDNS struct {
	api    api
	label  string // of the account, the first of its name
	target string // the account's whole name, or what it most likely is
	log    *zap.Logger
}

func openACMEDNS(settings Settings, log *zap.Logger) (Provider, error) {
	base, err := baseURL(settings["url"], log)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	user, password := settings["username"], settings["password"]
	// The server names an account by its label; some write down the whole name,
	// which registration tells, too.
	whole := strings.ToLower(strings.Trim(settings["subdomain"], "."))
	label, _, full := strings.Cut(whole, ".")
	if !full {
		parsed, _ := url.Parse(base)
		whole = label + "." + parsed.Hostname()
	}
	return &acmeDNS{
		api: api{client: newClient(), base: base, secrets: []string{password}, authorize: func(request *http.Request) {
			request.Header.Set("X-Api-User", user)
			request.Header.Set("X-Api-Key", password)
		}},
		label:  label,
		target: whole,
		log:    log,
	}, nil
}

func (a *acmeDNS) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, record := range records {
		rr := record.RR()
		name := bare(libdns.AbsoluteName(rr.Name, zone))
		if rr.Type != "TXT" {
			return nil, fmt.Errorf("acmedns cannot write %s records, only TXT", rr.Type)
		}
		if label, _, _ := strings.Cut(name, "."); !strings.EqualFold(label, a.label) {
			return nil, &needsCNAME{name: name, target: a.target}
		}
		if err := a.update(ctx, rr.Data); err != nil {
			return nil, fmt.Errorf("acmedns: %w", err)
		}
		a.log.Debug("record updated", zap.String("name", name))
	}
	return records, nil
}

func (a *acmeDNS) update(ctx context.Context, value string) error {
	var answer struct {
		TXT string `json:"txt"`
	}
	change := map[string]string{"subdomain": a.label, "txt": value}
	err := a.api.call(ctx, http.MethodPost, "/update", change, &answer)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("%w: is url that of acme-dns?", err)
	}
	if err != nil {
		return err
	}
	if answer.TXT != value {
		return errors.New("the answer has another value: is url that of acme-dns?")
	}
	return nil
}

// DeleteRecords does nothing: there is no such call, and the next two values
// push these out.
func (a *acmeDNS) DeleteRecords(_ context.Context, _ string, records []libdns.Record) ([]libdns.Record, error) {
	return records, nil
}

// needsCNAME says which record is to be made. Only the Solver knows the name
// where a chain of CNAMEs began.
type needsCNAME struct{ name, found, target string }

func (e *needsCNAME) Error() string {
	found := "has no CNAME"
	if e.found != "" {
		found = "is a CNAME to " + e.found + ", not"
	}
	return fmt.Sprintf("acmedns: %s %s to this account: make the record \"%[1]s. CNAME %[3]s.\" (the name that the registration called fulldomain)", e.name, found, e.target)
}
