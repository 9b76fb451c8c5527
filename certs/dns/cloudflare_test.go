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

func cloudflareCase() vendorCase {
	return vendorCase{
		settings: Settings{"api_token": "cf-7Qw2ZkT0pXyN5uRb8VdLe4Hs6Jm1AoCg"},
		wrong:    Settings{"api_token": "cf-another-token-that-is-refused-00"},
		open: func(s Settings, log *zap.Logger, c *http.Client, base string) (*vendor, error) {
			return newCloudflare(s, log, c, base+"/client/v4"), nil
		},
		answer: answerCloudflare,
		needs:  "api_token needs the permissions Zone:Read and DNS:Edit",
	}
}

const cloudflareZoneID = "023e105f4ecef8ad9ca31a8372d0c353"

// answerCloudflare is API v4 of Cloudflare: bearer token, envelopes, pages.
func answerCloudflare(s *shelf, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if got := r.Header.Get("Authorization"); got != "Bearer "+s.vendor.settings["api_token"] {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"success":false,"errors":[{"code":9109,"message":"Invalid access token %s"}],"messages":[],"result":null}`, got)
		return
	}
	records, ours := strings.CutPrefix(r.URL.Path, "/client/v4/zones/"+cloudflareZoneID+"/dns_records")
	switch {
	case r.Method == "GET" && r.URL.Path == "/client/v4/zones":
		s.cloudflarePage(w, r, "zone", func(pad string) any {
			return map[string]string{"id": "pad" + pad, "name": "pad" + pad + ".example", "status": "active"}
		}, s.cloudflareZones(r.URL.Query().Get("name")))
	case r.Method == "GET" && ours && records == "":
		q := r.URL.Query()
		if q.Get("type") != "TXT" || q.Get("name.exact") == "" {
			s.Errorf("listing of everything: %s", r.URL.RawQuery)
		}
		var found []any
		for _, record := range s.find(q.Get("name.exact"), "TXT") {
			found = append(found, cloudflareJSON(record))
		}
		s.cloudflarePage(w, r, "record", func(pad string) any {
			return map[string]any{"id": "pad" + pad, "name": "pad.example.org", "type": "TXT", "content": `"` + valueA + `"`, "ttl": 60}
		}, found)
	case r.Method == "POST" && ours && records == "":
		s.cloudflareCreate(w, r)
	case r.Method == "DELETE" && ours && strings.HasPrefix(records, "/"):
		id, err := strconv.Atoi(records[1:])
		if err != nil || !s.drop(id) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"success":false,"errors":[{"code":81044,"message":"Record does not exist."}],"messages":[],"result":null}`)
			return
		}
		fmt.Fprintf(w, `{"success":true,"errors":[],"messages":[],"result":{"id":"%d"}}`, id)
	default:
		s.Errorf("no such call: %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	}
}

func (s *shelf) cloudflareZones(name string) []any {
	if name != s.zone {
		return nil
	}
	// While a zone moves to another account it is there twice.
	return []any{map[string]string{"id": "ffff105f4ecef8ad9ca31a8372d0c353", "name": name, "status": "pending"},
		map[string]string{"id": cloudflareZoneID, "name": name, "status": "active"}}
}

func cloudflareJSON(r stored) map[string]any {
	return map[string]any{"id": strconv.Itoa(r.id), "name": r.name, "type": r.kind, "content": quote(r.text), "ttl": r.ttl, "proxied": false}
}

func (s *shelf) cloudflarePage(w http.ResponseWriter, r *http.Request, what string, pad func(string) any, found []any) {
	page, err1 := strconv.Atoi(r.URL.Query().Get("page"))
	size, err2 := strconv.Atoi(r.URL.Query().Get("per_page"))
	if err1 != nil || err2 != nil || size < 5 || what == "zone" && size > 50 {
		s.Errorf("page of %ss: %s", what, r.URL.RawQuery)
		return
	}
	all := []any{}
	for i := range s.pad {
		all = append(all, pad(strconv.Itoa(i)))
	}
	all = append(all, found...)
	from, to := min((page-1)*size, len(all)), min(page*size, len(all))
	json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": all[from:to],
		"result_info": map[string]int{"page": page, "per_page": size, "count": to - from, "total_count": len(all)}})
}

func (s *shelf) cloudflareCreate(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Type, Name, Content string
		TTL                 int
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil || r.Header.Get("Content-Type") != "application/json" {
		s.Errorf("record: %v, %s", err, r.Header.Get("Content-Type"))
	}
	if in.Type != "TXT" || !strings.HasSuffix(in.Name, s.zone) || in.TTL < 60 || in.Content != quote(unquote(in.Content)) {
		s.Errorf("record: %+v", in)
	}
	text := unquote(in.Content)
	if slices.ContainsFunc(s.find(in.Name, "TXT"), func(r stored) bool { return r.text == text }) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"success":false,"errors":[{"code":81058,"message":"An identical record already exists."}],"messages":[],"result":null}`)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []any{}, "messages": []any{},
		"result": cloudflareJSON(s.put(in.Name, "TXT", text, in.TTL))})
}

// Another replica writes the same value between our look and our record.
func TestCloudflareTakesAnIdenticalRecordForDone(t *testing.T) {
	c := cloudflareCase()
	r := newRig(t, c, c.settings)
	r.fault = func(_ http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodPost {
			r.mu.Lock()
			r.put(testName, "TXT", valueA, 60)
			r.mu.Unlock()
		}
		return false
	}
	r.good(r.append(txt(valueA)))
	r.want(testName, valueA)
}

// A token of the wrong form is refused with 400.
func TestCloudflareKnowsABadTokenBy400(t *testing.T) {
	c := cloudflareCase()
	r := newRig(t, c, c.settings)
	r.fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"success":false,"errors":[{"code":6003,"message":"Invalid request headers","error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}],"messages":[],"result":null}`)
		return true
	}
	r.bad(r.append(txt(valueA)), "Invalid request headers", "(6003)", c.needs)
}

// Some refusals come with status 200.
func TestCloudflareReadsTheEnvelope(t *testing.T) {
	for answer, want := range map[string]string{
		`{"success":false,"errors":[{"code":1000,"message":"not today"}],"result":null}`: "not today",
		`{"success":false,"errors":[],"result":[{"id":"1","name":"example.org"}]}`:       errForeign.Error(),
		`{"result":[{"id":"1","name":"example.org"}]}`:                                   errForeign.Error(),
		`{"success":true,"errors":[],"result":{"id":"1"}}`:                               errForeign.Error(),
		`{"success":true,"errors":[],"result":[{"id":"1","name":"www.example.org"}]}`:    errNoZone.Error(),
	} {
		c := cloudflareCase()
		r := newRig(t, c, c.settings)
		r.fault = func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprint(w, answer)
			return true
		}
		r.bad(r.append(txt(valueA)), want)
		if len(r.calls) != 1 {
			t.Errorf("went on after %s", answer)
		}
	}
}
