package dns

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func hetznerCase() vendorCase {
	return vendorCase{
		settings: Settings{"api_token": "hz8Kq3Vt6Yw1Zr4Nb7Mx0Pc5Jd2Lf9Gs6HaTe3RuIo8Py5Wq1Xk4Zv7Bn0Mc2Dj"},
		wrong:    Settings{"api_token": "hz0000000000000000000000000000000000000000000000000000000000000"},
		open: func(s Settings, log *zap.Logger, c *http.Client, base string) (*vendor, error) {
			return newHetzner(s, log, c, base+"/v1"), nil
		},
		answer: answerHetzner,
		needs:  "api_token has to be a token with Read & Write",
	}
}

// answerHetzner is the DNS of Hetzner's Cloud API: bearer token, RRsets with
// quoted values, and actions that take a while.
func answerHetzner(s *shelf, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if got := r.Header.Get("Authorization"); got != "Bearer "+s.vendor.settings["api_token"] {
		refuse("hetzner", w, http.StatusUnauthorized, "unauthorized", "unable to authenticate "+got)
		return
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	if r.Method == "GET" && len(path) == 2 && path[0] == "actions" {
		s.hetznerAction(w, http.StatusOK)
		return
	}
	if path[0] != "zones" || len(path) < 2 || path[1] != s.zone && path[1] != "4711" {
		refuse("hetzner", w, http.StatusNotFound, "not_found", "zone not found")
		return
	}
	if r.Method == "GET" && len(path) == 2 {
		json.NewEncoder(w).Encode(map[string]any{"zone": map[string]any{"id": 4711, "name": s.zone, "mode": "primary", "ttl": 3600}})
		return
	}
	if len(path) < 5 || path[2] != "rrsets" || path[4] != "TXT" {
		s.Errorf("no such call: %s %s", r.Method, r.URL)
		return
	}
	name := absolute(path[3], s.zone)
	if path[3] == "" || strings.HasSuffix(path[3], s.zone) {
		s.Errorf("name in an RRset: %q", path[3])
	}
	switch found := s.find(name, "TXT"); {
	case r.Method == "GET" && len(path) == 5:
		if len(found) == 0 {
			refuse("hetzner", w, http.StatusNotFound, "not_found", "rrset not found")
			return
		}
		records := []map[string]string{}
		for _, r := range found {
			records = append(records, map[string]string{"value": quote(r.text)})
		}
		json.NewEncoder(w).Encode(map[string]any{"rrset": map[string]any{"id": path[3] + "/TXT", "name": path[3], "type": "TXT",
			"ttl": found[0].ttl, "records": records, "zone": 4711}})
	case r.Method == "POST" && len(path) == 7 && path[5] == "actions":
		s.hetznerChange(w, r, name, path[6], found)
	default:
		s.Errorf("no such call: %s %s", r.Method, r.URL)
	}
}

func (s *shelf) hetznerChange(w http.ResponseWriter, r *http.Request, name, verb string, found []stored) {
	var in struct {
		Records []struct{ Value string }
		TTL     *int
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil || len(in.Records) == 0 || r.Header.Get("Content-Type") != "application/json" {
		s.Errorf("records: %v, %+v, %s", err, in, r.Header.Get("Content-Type"))
	}
	for _, record := range in.Records {
		if record.Value != quote(unquote(record.Value)) {
			s.Errorf("value is not quoted: %s", record.Value)
		}
		there := slices.IndexFunc(found, func(r stored) bool { return r.text == unquote(record.Value) })
		switch {
		case verb == "add_records" && len(found) > 0 && in.TTL != nil && *in.TTL != found[0].ttl:
			refuse("hetzner", w, http.StatusUnprocessableEntity, "invalid_input", "ttl differs from that of the rrset")
			return
		case verb == "add_records" && len(found) == 0 && (in.TTL == nil || *in.TTL < 60):
			s.Errorf("TTL of a new RRset: %v", in.TTL)
		case verb == "add_records" && there >= 0:
			refuse("hetzner", w, http.StatusConflict, "uniqueness_error", "record exists")
			return
		case verb == "add_records":
			ttl := 0
			if len(found) > 0 {
				ttl = found[0].ttl
			} else if in.TTL != nil {
				ttl = *in.TTL
			}
			s.put(name, "TXT", unquote(record.Value), ttl)
		case verb == "remove_records" && there < 0:
			refuse("hetzner", w, http.StatusNotFound, "not_found", "record not found")
			return
		case verb == "remove_records":
			s.drop(found[there].id)
		default:
			s.Errorf("no such action: %s", verb)
		}
	}
	s.lag = 2
	s.hetznerAction(w, http.StatusCreated)
}

func (s *shelf) hetznerAction(w http.ResponseWriter, status int) {
	state := "running"
	if s.lag--; s.lag < 0 {
		state = "success"
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"action":{"id":%s,"command":"change_rrset","status":%q,"progress":50,"error":null}}`, strconv.Itoa(99), state)
}

func TestHetznerWaitsForTheAction(t *testing.T) {
	c := hetznerCase()
	r := newRig(t, c, c.settings)
	r.good(r.append(txt(valueA)))
	if n := r.count("GET /v1/actions/99"); n != 2 {
		t.Errorf("%d looks at the action, want 2", n)
	}
}

// Adding to a set that has another TTL must not name ours.
func TestHetznerKeepsTheTTLOfASet(t *testing.T) {
	c := hetznerCase()
	r := newRig(t, c, c.settings)
	r.put(testName, "TXT", "somebody else's", 7200)
	r.good(r.append(txt(valueA)))
	if found := r.find(testName, "TXT"); len(found) != 2 || found[1].ttl != 7200 {
		t.Errorf("records: %+v", found)
	}
}

func TestHetznerTriesAgainAfterAConflict(t *testing.T) {
	for _, code := range []string{"conflict", "locked", "uniqueness_error"} {
		c := hetznerCase()
		r := newRig(t, c, c.settings)
		conflicts := 0
		r.fault = func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPost || conflicts == 2 {
				return false
			}
			conflicts++
			refuse("hetzner", w, http.StatusConflict, code, "changed during the request")
			return true
		}
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
	}
}

// The library would repeat this five times, up to a minute apart.
func TestHetznerLeavesRepeatingToUs(t *testing.T) {
	c := hetznerCase()
	r := newRig(t, c, c.settings)
	r.failing(0, 1000, func(w http.ResponseWriter) {
		refuse("hetzner", w, http.StatusTooManyRequests, "rate_limit_exceeded", "limit of 3600 requests per hour reached")
	})
	r.bad(r.append(txt(valueA)), "rate_limit_exceeded", "too many calls")
	if len(r.calls) != 1 {
		t.Errorf("%d calls, want 1", len(r.calls))
	}
}

func TestHetznerTellsWhyAnActionFailed(t *testing.T) {
	c := hetznerCase()
	r := newRig(t, c, c.settings)
	r.fault = func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method != http.MethodPost {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"action":{"id":99,"command":"add_rrset_records","status":"error","error":{"code":"dns_zone_is_secondary_zone","message":"zone is secondary"}}}`)
		return true
	}
	r.bad(r.append(txt(valueA)), "zone is secondary", "dns_zone_is_secondary_zone")
}
