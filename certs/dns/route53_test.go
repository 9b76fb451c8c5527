package dns

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func route53Case() vendorCase {
	return vendorCase{
		settings: Settings{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
			"session_token": "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ"},
		wrong: Settings{"secret_access_key": "0000000000000000000000000000000000000000", "session_token": "1111111111111111111111111111111"},
		open: func(s Settings, log *zap.Logger, c *http.Client, base string) (*vendor, error) {
			return newRoute53(s, log, c, base)
		},
		answer: answerRoute53,
		needs:  "route53:ChangeResourceRecordSets on this zone",
	}
}

const (
	route53Zone = "Z1PA6795UKMFR9"
	route53XML  = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	route53NS   = "https://route53.amazonaws.com/doc/2013-04-01/"
)

// answerRoute53 is API 2013-04-01 of Route 53: Signature Version 4, XML, RRsets
// that are changed in batches and take a while to be everywhere.
func answerRoute53(s *shelf, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("X-Amz-Security-Token") != s.vendor.settings["session_token"] {
		refuse("route53", w, http.StatusForbidden, "InvalidClientTokenId", "The security token "+r.Header.Get("X-Amz-Security-Token")+" is invalid")
		return
	}
	if signature(r, body, s.vendor.settings["secret_access_key"]) != r.Header.Get("Authorization") {
		refuse("route53", w, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match. x-amz-security-token:"+
			strings.Repeat("-", 180)+r.Header.Get("X-Amz-Security-Token"))
		return
	}
	switch {
	case r.Method == "GET" && r.URL.Path == "/2013-04-01/hostedzonesbyname":
		s.route53Zones(w, r)
	case r.Method == "GET" && r.URL.Path == "/2013-04-01/change/C2682N5HXP0BZ4":
		s.route53Change(w, "GetChangeResponse")
	case r.URL.Path != "/2013-04-01/hostedzone/"+route53Zone+"/rrset":
		refuse("route53", w, http.StatusNotFound, "NoSuchHostedZone", "No hosted zone found")
	case r.Method == "GET":
		s.route53List(w, r)
	case r.Method == "POST":
		s.route53Batch(w, body)
	default:
		s.Errorf("no such call: %s %s", r.Method, r.URL)
	}
}

// signature is the Authorization header that a request has to have, made of its
// own date, region and list of signed headers.
func signature(r *http.Request, body []byte, secret string) string {
	got := r.Header.Get("Authorization")
	_, signed, _ := strings.Cut(got, "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	for _, needed := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if !slices.Contains(strings.Split(signed, ";"), needed) {
			return "not signed: " + needed
		}
	}
	headers := ""
	for _, name := range strings.Split(signed, ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		headers += name + ":" + strings.TrimSpace(value) + "\n"
	}
	sum := sha256.Sum256(body)
	canonical := sha256.Sum256([]byte(strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.Query().Encode(), headers, signed, hex.EncodeToString(sum[:])}, "\n")))
	date := r.Header.Get("X-Amz-Date")
	if at, err := time.Parse("20060102T150405Z", date); err != nil || time.Since(at).Abs() > time.Minute {
		return "bad date"
	}
	scope := date[:8] + "/us-east-1/route53/aws4_request"
	key := []byte("AWS4" + secret)
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	result := mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(canonical[:]))
	return "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/" + scope + ", SignedHeaders=" + signed + ", Signature=" + hex.EncodeToString(result)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// route53Zones lists zones in order of their names, which is that of their
// labels from the last one on, three to a page.
func (s *shelf) route53Zones(w http.ResponseWriter, r *http.Request) {
	type zone struct{ name, id, private string }
	all := []zone{}
	for i := range s.pad / 20 { // private ones of the same name
		all = append(all, zone{s.zone + ".", fmt.Sprintf("ZPRIVATE%d", i), "true"})
	}
	all = append(all, zone{s.zone + ".", route53Zone, "false"}, zone{"www." + s.zone + ".", "ZWWW", "false"}, zone{"example.se.", "ZSE", "false"})
	from := 0
	if name := r.URL.Query().Get("dnsname"); name == "" || !strings.HasSuffix(name, ".") {
		s.Errorf("zones: %s", r.URL.RawQuery)
	} else if name != s.zone+"." {
		from = len(all) - 1 // what comes after a name that is not there
	}
	if id := r.URL.Query().Get("hostedzoneid"); id != "" {
		from = slices.IndexFunc(all, func(z zone) bool { return z.id == id })
	}
	to := min(from+3, len(all))
	fmt.Fprint(w, route53XML+`<ListHostedZonesByNameResponse xmlns="`+route53NS+`"><HostedZones>`)
	for _, z := range all[from:to] {
		fmt.Fprintf(w, `<HostedZone><Id>/hostedzone/%s</Id><Name>%s</Name><CallerReference>x</CallerReference><Config><PrivateZone>%s</PrivateZone></Config></HostedZone>`, z.id, z.name, z.private)
	}
	fmt.Fprint(w, `</HostedZones>`)
	if to < len(all) {
		fmt.Fprintf(w, `<IsTruncated>true</IsTruncated><NextDNSName>%s</NextDNSName><NextHostedZoneId>%s</NextHostedZoneId>`, all[to].name, all[to].id)
	} else {
		fmt.Fprint(w, `<IsTruncated>false</IsTruncated>`)
	}
	fmt.Fprint(w, `<MaxItems>3</MaxItems></ListHostedZonesByNameResponse>`)
}

// A route53Set is an RRset as Route 53 reads and writes it.
type route53Set struct {
	Name   string
	Type   string
	TTL    int
	Values []route53Value `xml:"ResourceRecords>ResourceRecord"`
}

type route53Value struct{ Value string }

func (s *shelf) route53Set(name string) route53Set {
	set := route53Set{Name: name, Type: "TXT"}
	for _, r := range s.find(strings.TrimSuffix(name, "."), "TXT") {
		set.TTL = r.ttl
		set.Values = append(set.Values, route53Value{quote(r.text)})
	}
	return set
}

func (s *shelf) route53List(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("type") != "TXT" || !strings.HasSuffix(q.Get("name"), s.zone+".") {
		s.Errorf("records: %s", r.URL.RawQuery)
	}
	set := s.route53Set(q.Get("name"))
	if len(set.Values) == 0 {
		set = route53Set{Name: "zzz." + s.zone + ".", Type: "TXT", TTL: 60, Values: []route53Value{{quote(valueA)}}} // the next one in order
	}
	fmt.Fprint(w, route53XML+`<ListResourceRecordSetsResponse xmlns="`+route53NS+`"><ResourceRecordSets>`)
	xml.NewEncoder(w).EncodeElement(set, xml.StartElement{Name: xml.Name{Local: "ResourceRecordSet"}})
	fmt.Fprint(w, `</ResourceRecordSets><IsTruncated>true</IsTruncated><MaxItems>1</MaxItems></ListResourceRecordSetsResponse>`)
}

// route53Batch does all or nothing.
func (s *shelf) route53Batch(w http.ResponseWriter, body []byte) {
	var in struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ ChangeResourceRecordSetsRequest"`
		Changes []struct {
			Action string
			Set    route53Set `xml:"ResourceRecordSet"`
		} `xml:"ChangeBatch>Changes>Change"`
	}
	if err := xml.Unmarshal(body, &in); err != nil || len(in.Changes) == 0 {
		s.Errorf("batch: %v, %s", err, body)
	}
	before := slices.Clone(s.records)
	for _, change := range in.Changes {
		there, name := s.route53Set(change.Set.Name), strings.TrimSuffix(change.Set.Name, ".")
		wrong := ""
		switch {
		case change.Set.Type != "TXT" || !strings.HasSuffix(change.Set.Name, s.zone+".") || change.Set.TTL < 1 || len(change.Set.Values) == 0:
			s.Errorf("change: %+v", change)
		case change.Action == "CREATE" && len(there.Values) > 0:
			wrong = "Tried to create resource record set but it already exists"
		case change.Action == "DELETE" && (there.TTL != change.Set.TTL || !slices.Equal(there.Values, change.Set.Values)):
			wrong = "Tried to delete resource record set but the values provided do not match the current values"
		case change.Action == "DELETE":
			s.records = slices.DeleteFunc(s.records, func(r stored) bool { return r.name == name && r.kind == "TXT" })
		case change.Action == "CREATE":
			for _, value := range change.Set.Values {
				text := unquote(value.Value)
				if value.Value != quote(text) {
					s.Errorf("value is not quoted: %s", value.Value)
				}
				s.put(name, "TXT", text, change.Set.TTL)
			}
		default:
			s.Errorf("change: %+v", change)
		}
		if wrong != "" {
			s.records = before
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, route53XML+`<InvalidChangeBatch xmlns="%s"><Messages><Message>%s</Message></Messages><RequestId>b25f48e8</RequestId></InvalidChangeBatch>`, route53NS, wrong)
			return
		}
	}
	s.lag = 2
	s.route53Change(w, "ChangeResourceRecordSetsResponse")
}

func (s *shelf) route53Change(w http.ResponseWriter, element string) {
	state := "PENDING"
	if s.lag--; s.lag < 0 {
		state = "INSYNC"
	}
	fmt.Fprintf(w, route53XML+`<%s xmlns="%s"><ChangeInfo><Id>/change/C2682N5HXP0BZ4</Id><Status>%s</Status><SubmittedAt>2026-11-22T05:00:00.000Z</SubmittedAt></ChangeInfo></%s>`,
		element, route53NS, state, element)
}

func TestRoute53WaitsUntilInSync(t *testing.T) {
	c := route53Case()
	r := newRig(t, c, c.settings)
	looks := "GET /2013-04-01/change/C2682N5HXP0BZ4"
	r.good(r.append(txt(valueA)))
	if n := r.count(looks); n != 2 {
		t.Errorf("%d looks at the change, want 2", n)
	}
	r.good(r.delete(txt(valueA)))
	if n := r.count(looks); n != 2 {
		t.Errorf("waited for a deletion")
	}
}

// Another replica writes between our look and our change: its value stays.
func TestRoute53LosesNoValueOfAnother(t *testing.T) {
	for _, there := range []int{0, 1} {
		c := route53Case()
		r := newRig(t, c, c.settings)
		want := []string{valueA, valueB}
		if there == 1 {
			r.put(testName, "TXT", "before", 60)
			want = append(want, "before")
		}
		wrote := false
		r.fault = func(_ http.ResponseWriter, q *http.Request) bool {
			if q.Method == http.MethodPost && !wrote {
				wrote = true
				r.mu.Lock()
				r.put(testName, "TXT", valueB, 60)
				r.mu.Unlock()
			}
			return false
		}
		r.good(r.append(txt(valueA)))
		r.want(testName, want...)
	}
}

func TestRoute53KeepsTheTTLOfASet(t *testing.T) {
	c := route53Case()
	r := newRig(t, c, c.settings)
	r.put(testName, "TXT", "somebody else's", 7200)
	r.good(r.append(txt(valueA)))
	if found := r.find(testName, "TXT"); len(found) != 2 || found[0].ttl != 7200 {
		t.Errorf("records: %+v", found)
	}
}

func TestRoute53TakesTheZoneThatItIsGiven(t *testing.T) {
	c := route53Case()
	for _, id := range []string{route53Zone, "/hostedzone/" + route53Zone} {
		settings := Settings{"hosted_zone_id": id, "region": "eu-central-1"}
		for k, v := range c.settings {
			settings[k] = v
		}
		settings["region"] = "" // the one that is signed for
		r := newRig(t, c, settings)
		r.good(r.append(txt(valueA)))
		if r.count("GET /2013-04-01/hostedzonesbyname") != 0 {
			t.Error("zone was looked for")
		}
	}
	settings := Settings{"hosted_zone_id": "ZNOTTHERE"}
	for k, v := range c.settings {
		settings[k] = v
	}
	r := newRig(t, c, settings)
	r.bad(r.append(txt(valueA)), "no such zone", "NoSuchHostedZone")
}

func TestRoute53AsksWhichOfSeveralZones(t *testing.T) {
	c := route53Case()
	r := newRig(t, c, c.settings)
	r.fault = func(w http.ResponseWriter, q *http.Request) bool {
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(w, route53XML+`<ListHostedZonesByNameResponse xmlns="`+route53NS+`"><HostedZones>`+
			`<HostedZone><Id>/hostedzone/ZONE1</Id><Name>example.org.</Name><CallerReference>x</CallerReference></HostedZone>`+
			`<HostedZone><Id>/hostedzone/ZONE2</Id><Name>example.org.</Name><CallerReference>x</CallerReference></HostedZone>`+
			`</HostedZones><IsTruncated>false</IsTruncated><MaxItems>3</MaxItems></ListHostedZonesByNameResponse>`)
		return true
	}
	r.bad(r.append(txt(valueA)), "ZONE1, ZONE2", "hosted_zone_id")
}

func TestRoute53TriesAgainWhenThrottled(t *testing.T) {
	for _, code := range []string{"Throttling", "PriorRequestNotComplete"} {
		c := route53Case()
		r := newRig(t, c, c.settings)
		r.failing(1, 2, func(w http.ResponseWriter) { refuse("route53", w, http.StatusBadRequest, code, "Rate exceeded") })
		r.good(r.append(txt(valueA)))
		r.want(testName, valueA)
	}
}

func TestRoute53RefusesRoutingPolicies(t *testing.T) {
	c := route53Case()
	r := newRig(t, c, c.settings)
	r.fault = func(w http.ResponseWriter, q *http.Request) bool {
		if !strings.HasSuffix(q.URL.Path, "/rrset") {
			return false
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprint(w, route53XML+`<ListResourceRecordSetsResponse xmlns="`+route53NS+`"><ResourceRecordSets><ResourceRecordSet><Name>`+testName+
			`.</Name><Type>TXT</Type><SetIdentifier>blue</SetIdentifier><Weight>1</Weight><TTL>60</TTL></ResourceRecordSet></ResourceRecordSets>`+
			`<IsTruncated>false</IsTruncated><MaxItems>1</MaxItems></ListResourceRecordSetsResponse>`)
		return true
	}
	r.bad(r.append(txt(valueA)), "routing policy", "CNAME")
}

// Without keys the chain of Amazon is used, as documented.
func TestRoute53FindsCredentialsOfTheMachine(t *testing.T) {
	c := route53Case()
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, "/dev/null")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_MAX_ATTEMPTS", "50")
	r := newRig(t, c, Settings{})
	r.bad(r.append(txt(valueA)), "give access_key_id and secret_access_key")
	if len(r.calls) != 0 {
		t.Errorf("calls without credentials: %q", r.calls)
	}

	t.Setenv("AWS_ACCESS_KEY_ID", c.settings["access_key_id"])
	t.Setenv("AWS_SECRET_ACCESS_KEY", c.settings["secret_access_key"])
	t.Setenv("AWS_SESSION_TOKEN", c.settings["session_token"])
	r = newRig(t, c, Settings{})
	r.good(r.append(txt(valueA)))
	r.want(testName, valueA)
	r.failing(0, 1000, status(http.StatusServiceUnavailable))
	before := len(r.calls)
	r.bad(r.delete(txt(valueA)), "503")
	if calls := len(r.calls) - before; calls != len(r.pauses)+1 {
		t.Errorf("%d calls, want %d", calls, len(r.pauses)+1)
	}
}

func TestRoute53WantsBothKeysOrNone(t *testing.T) {
	for _, settings := range []Settings{{"access_key_id": "AKIAIOSFODNN7EXAMPLE"}, {"secret_access_key": "wJalrXUtnFEMI"}, {"session_token": "IQoJb3JpZ2lu"}} {
		_, err := Open("route53", settings, nil)
		if err == nil || !strings.Contains(err.Error(), "go together") {
			t.Errorf("%v", err)
		}
		for _, secret := range settings {
			if strings.Contains(fmt.Sprint(err), secret) {
				t.Errorf("secret in %v", err)
			}
		}
	}
}
