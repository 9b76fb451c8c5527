package dns

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func ovhCase() vendorCase {
	return vendorCase{
		settings: Settings{"endpoint": "ovh-eu", "application_key": "7kbG7Bk7S9Nt7ZSV",
			"application_secret": "EXEgWIz07P0HYwtQDs7cNIqCiQaWSuHF", "consumer_key": "MtSwSrPpNjqfVSmJhLbPyr2i45lSwPU1"},
		wrong: Settings{"application_secret": "00000000000000000000000000000000", "consumer_key": "11111111111111111111111111111111",
			"application_key": "2222222222222222"},
		open: func(s Settings, log *zap.Logger, c *http.Client, base string) (*vendor, error) {
			return newOVH(s, log, c, base+"/1.0"), nil
		},
		answer: answerOVH,
		needs:  "granted GET, POST and DELETE on /domain/zone/*",
	}
}

// The API's clock is not ours.
const ovhClock = -7 * time.Hour

// answerOVH is API 1.0 of OVHcloud: signed requests, records by number.
func answerOVH(s *shelf, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if r.Method == "GET" && r.URL.Path == "/1.0/auth/time" {
		fmt.Fprint(w, time.Now().Add(ovhClock).Unix())
		return
	}
	body, _ := io.ReadAll(r.Body)
	if code, said := s.ovhDenies(r, body); code != 0 {
		refuse("ovh", w, code, "Client::Refused", said)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/1.0/domain/zone/"+s.zone)
	id, err := strconv.ParseInt(strings.TrimPrefix(rest, "/record/"), 10, 64)
	switch {
	case !ok:
		refuse("ovh", w, http.StatusNotFound, "Client::NotFound", "This service does not exist")
	case r.Method == "POST" && rest == "/refresh":
		fmt.Fprint(w, "null")
	case r.Method == "GET" && rest == "/record":
		s.ovhList(w, r.URL.Query())
	case r.Method == "POST" && rest == "/record":
		s.ovhCreate(w, r, body)
	case err == nil && r.Method == "GET":
		s.ovhShow(w, int(id))
	case err == nil && r.Method == "DELETE":
		if !s.drop(int(id)) {
			refuse("ovh", w, http.StatusNotFound, "Client::NotFound", "The requested object (id = 1) does not exist")
			return
		}
		fmt.Fprint(w, "null")
	default:
		s.Errorf("no such call: %s %s", r.Method, r.URL)
	}
}

// ovhDenies checks a signature: $1$ and the SHA-1 of secret, consumer key,
// method, URL, body and time, joined by plus signs.
func (s *shelf) ovhDenies(r *http.Request, body []byte) (int, string) {
	keys := s.vendor.settings
	if r.Header.Get("Authorization") != "" {
		s.Error("authorized twice")
	}
	stamp, err := strconv.ParseInt(r.Header.Get("X-Ovh-Timestamp"), 10, 64)
	if off := time.Since(time.Unix(stamp, 0).Add(-ovhClock)).Abs(); err != nil || off > 5*time.Second {
		s.Errorf("time is off by %s", off)
	}
	sum := sha1.Sum([]byte(fmt.Sprintf("%s+%s+%s+%s+%s+%d", keys["application_secret"], r.Header.Get("X-Ovh-Consumer"), r.Method,
		"http://"+r.Host+r.URL.RequestURI(), body, stamp)))
	switch {
	case r.Header.Get("X-Ovh-Application") != keys["application_key"]:
		return http.StatusForbidden, "This application key is invalid"
	case r.Header.Get("X-Ovh-Consumer") != keys["consumer_key"]:
		return http.StatusForbidden, "This credential " + r.Header.Get("X-Ovh-Consumer") + " does not exist"
	case r.Header.Get("X-Ovh-Signature") != fmt.Sprintf("$1$%x", sum):
		return http.StatusBadRequest, "Invalid signature"
	}
	return 0, ""
}

func (s *shelf) ovhList(w http.ResponseWriter, q url.Values) {
	if q.Get("fieldType") != "TXT" || !q.Has("subDomain") || q.Get("subDomain") == "@" {
		s.Errorf("listing: %s", q.Encode())
	}
	ids := []int{}
	for i := range s.pad {
		ids = append(ids, 1e6+i)
	}
	for _, r := range s.find(absolute(q.Get("subDomain"), s.zone), "TXT") {
		ids = append(ids, r.id)
	}
	json.NewEncoder(w).Encode(ids)
}

func (s *shelf) ovhShow(w http.ResponseWriter, id int) {
	if id >= 1e6 {
		s.ovhRecord(w, stored{id, "pad." + s.zone, "TXT", valueA, 60}, valueA)
		return
	}
	for _, r := range s.records {
		if r.id == id {
			s.ovhRecord(w, r, quote(r.text)) // records made in OVH's web pages come quoted
			return
		}
	}
	refuse("ovh", w, http.StatusNotFound, "Client::NotFound", "The requested object does not exist")
}

func (s *shelf) ovhRecord(w http.ResponseWriter, r stored, target string) {
	json.NewEncoder(w).Encode(map[string]any{"id": r.id, "zone": s.zone, "fieldType": r.kind, "target": target, "ttl": r.ttl,
		"subDomain": strings.TrimPrefix(label(r.name, s.zone), "@")})
}

func (s *shelf) ovhCreate(w http.ResponseWriter, r *http.Request, body []byte) {
	var in struct {
		FieldType, SubDomain, Target string
		TTL                          int
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		s.Errorf("record: %v, %s", err, r.Header.Get("Content-Type"))
	}
	if in.FieldType != "TXT" || in.SubDomain == "@" || strings.HasSuffix(in.SubDomain, s.zone) || in.TTL < 60 || in.Target == "" {
		s.Errorf("record: %+v", in)
	}
	s.ovhRecord(w, s.put(absolute(in.SubDomain, s.zone), "TXT", in.Target, in.TTL), in.Target)
}

// Without it OVH's servers go on with the old zone. Also if only that had
// failed before.
func TestOVHPublishesTheZone(t *testing.T) {
	c := ovhCase()
	r := newRig(t, c, c.settings)
	refresh := "POST /1.0/domain/zone/example.org/refresh"
	r.good(r.append(txt(valueA)))
	r.good(r.delete(txt(valueA)))
	if n := r.count(refresh); n != 2 {
		t.Errorf("zone was published %d times, want 2", n)
	}
	failed := 0
	r.fault = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.HasSuffix(q.URL.Path, "/refresh") || failed == 1 {
			return false
		}
		failed++
		status(http.StatusInternalServerError)(w)
		return true
	}
	r.good(r.append(txt(valueA)))
	if n := r.count(refresh); n != 4 {
		t.Errorf("zone was published %d times, want 4", n)
	}
	r.want(testName, valueA)
}

func TestOVHEndpoint(t *testing.T) {
	for setting, want := range map[string]string{
		"ovh-eu":                        "https://eu.api.ovh.com/1.0",
		"ovh-ca":                        "https://ca.api.ovh.com/1.0",
		"https://api.example.org/1.0/":  "https://api.example.org/1.0",
		"http://127.0.0.1:8080/1.0":     "http://127.0.0.1:8080/1.0",
		"http://api.example.org/1.0":    "",
		"ovh-mars":                      "",
		"https://u:p@api.example.org/1": "",
	} {
		got, err := ovhEndpoint(setting)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", setting, got, err)
		}
	}
}
