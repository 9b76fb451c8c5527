package dns

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

func digitaloceanCase() vendorCase {
	return vendorCase{
		settings: Settings{"auth_token": "dop_v1_3c9a5e71b0d24f68a9c1e7d35b80f246"},
		wrong:    Settings{"auth_token": "dop_v1_00000000000000000000000000000000"},
		open: func(s Settings, log *zap.Logger, c *http.Client, base string) (*vendor, error) {
			return newDigitalOcean(s, log, c, base+"/")
		},
		answer: answerDigitalOcean,
		needs:  "auth_token needs the scopes domain:read, domain:create and domain:delete",
	}
}

// answerDigitalOcean is API v2 of DigitalOcean: bearer token, links to pages.
func answerDigitalOcean(s *shelf, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if got := r.Header.Get("Authorization"); got != "Bearer "+s.vendor.settings["auth_token"] {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"id":"Unauthorized","message":"Unable to authenticate you with %s"}`, got)
		return
	}
	domain, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/domains/"), "/records")
	if !ok || domain != s.zone {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"id":"not_found","message":"The resource you were accessing could not be found."}`)
		return
	}
	switch {
	case r.Method == "GET" && rest == "":
		s.digitaloceanPage(w, r)
	case r.Method == "POST" && rest == "":
		var in struct {
			Type, Name, Data                   string
			TTL, Priority, Port, Weight, Flags int
		}
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil || r.Header.Get("Content-Type") != "application/json" {
			s.Errorf("record: %v, %s", err, r.Header.Get("Content-Type"))
		}
		if in.Type != "TXT" || in.Name == "" || strings.HasSuffix(in.Name, s.zone) || in.TTL < 30 || strings.HasPrefix(in.Data, `"`) {
			s.Errorf("record: %+v", in)
		}
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"domain_record": s.digitaloceanRecord(s.put(absolute(in.Name, s.zone), "TXT", in.Data, in.TTL))})
	case r.Method == "DELETE" && strings.HasPrefix(rest, "/"):
		if id, err := strconv.Atoi(rest[1:]); err != nil || !s.drop(id) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"id":"not_found","message":"The resource you were accessing could not be found."}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		s.Errorf("no such call: %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	}
}

// absolute is a name out of one relative to a zone.
func absolute(name, zone string) string {
	if name == "@" || name == "" {
		return zone
	}
	return name + "." + zone
}

func (s *shelf) digitaloceanRecord(r stored) map[string]any {
	return map[string]any{"id": r.id, "type": r.kind, "name": label(r.name, s.zone), "data": r.text, "ttl": r.ttl, "priority": nil}
}

func (s *shelf) digitaloceanPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page, err1 := strconv.Atoi(q.Get("page"))
	size, err2 := strconv.Atoi(q.Get("per_page"))
	if err1 != nil || err2 != nil || size > 200 || q.Get("type") != "TXT" || !strings.HasSuffix(q.Get("name"), s.zone) {
		s.Errorf("listing: %s", r.URL.RawQuery)
		return
	}
	all := []any{}
	for i := range s.pad {
		all = append(all, s.digitaloceanRecord(stored{id: 1e6 + i, kind: "TXT", name: "pad." + s.zone, text: valueA}))
	}
	for _, record := range s.find(q.Get("name"), "TXT") {
		all = append(all, s.digitaloceanRecord(record))
	}
	from, to := min((page-1)*size, len(all)), min(page*size, len(all))
	links := map[string]any{}
	if to < len(all) {
		links["pages"] = map[string]string{"next": fmt.Sprintf("https://api.digitalocean.com%s?page=%d", r.URL.Path, page+1),
			"last": fmt.Sprintf("https://api.digitalocean.com%s?page=9", r.URL.Path)}
	}
	json.NewEncoder(w).Encode(map[string]any{"domain_records": all[from:to], "links": links, "meta": map[string]int{"total": len(all)}})
}
