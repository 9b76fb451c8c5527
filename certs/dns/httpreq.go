package dns

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

// A webhook is somebody else's small HTTP server that changes the zone: POST to
// /present and /cleanup with a name and a value, the shape for which there are
// bridges to many DNS products. Any 2xx is good; what it answers is not read.
type webhook struct {
	api api
	log *zap.Logger
}

func openHTTPReq(settings Settings, log *zap.Logger) (Provider, error) {
	base, err := baseURL(settings["endpoint"], log)
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	user, password := settings["username"], settings["password"]
	if (user == "") != (password == "") {
		return nil, errors.New("username and password go together")
	}
	w := &webhook{api: api{client: newClient(), base: base}, log: log}
	if user != "" {
		w.api.authorize = func(request *http.Request) { request.SetBasicAuth(user, password) }
		w.api.secrets = []string{password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	}
	return w, nil
}

func (w *webhook) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return w.each(ctx, "/present", zone, records)
}

func (w *webhook) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return w.each(ctx, "/cleanup", zone, records)
}

func (w *webhook) each(ctx context.Context, path, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for _, record := range records {
		rr := record.RR()
		if rr.Type != "TXT" {
			return nil, fmt.Errorf("httpreq cannot write %s records, only TXT", rr.Type)
		}
		change := struct {
			FQDN  string `json:"fqdn"`
			Value string `json:"value"`
		}{libdns.AbsoluteName(rr.Name, zone), rr.Data}
		if err := w.api.call(ctx, http.MethodPost, path, change, nil); err != nil {
			return nil, fmt.Errorf("httpreq %s: %w", change.FQDN, err)
		}
		w.log.Debug("webhook called", zap.String("path", path), zap.String("name", change.FQDN))
	}
	return records, nil
}

// baseURL checks an URL that paths are appended to. Credentials in it would get
// into errors, and have keys of their own. Plain HTTP is for bridges on this
// machine or in the same pod.
func baseURL(text string, log *zap.Logger) (string, error) {
	base, err := url.Parse(text)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return "", errors.New("use https://HOST[:PORT][/PATH]") // not the text: it may hold a password
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return "", errors.New("no user, query or fragment in the URL: credentials have keys of their own")
	}
	if ip := net.ParseIP(base.Hostname()); base.Scheme == "http" && base.Hostname() != "localhost" && !ip.IsLoopback() {
		log.Warn("credentials go over the network in clear", zap.String("url", text), zap.String("do", "use https"))
	}
	return strings.TrimRight(text, "/"), nil
}
