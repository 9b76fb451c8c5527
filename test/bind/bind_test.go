package bind

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const secret = "c21hbGwgYnV0IHNlY3JldCBlbm91Z2ggZm9yIHRlc3Q="

// update adds a TXT record with the key acme.
func update(t *testing.T, s *Server, zone, name, value string) int {
	t.Helper()
	record, err := dns.NewRR(name + ". 60 TXT " + value)
	if err != nil {
		t.Fatal(err)
	}
	change := new(dns.Msg).SetUpdate(zone + ".")
	change.Insert([]dns.RR{record})
	change.SetTsig("acme.", dns.HmacSHA256, 300, time.Now().Unix())
	client := dns.Client{Net: "tcp", TsigSecret: map[string]string{"acme.": secret}}
	answer, _, err := client.Exchange(change, s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return answer.Rcode
}

func TestPolicySecondaryAndCache(t *testing.T) {
	primary := Start(t, Config{
		Keys: []Key{{"acme", "hmac-sha256", secret}},
		Zones: []Zone{
			{Name: "example.test", Policy: []string{"grant acme. zonesub TXT"}, Records: "mail A 192.0.2.1"},
			{Name: "example.invalid"},
		},
	})
	secondary := Start(t, Config{Zones: []Zone{{Name: "example.test", Primary: primary.Addr()}}})
	cache := Start(t, Config{Zones: []Zone{{Name: "example.test", Forward: primary.Addr()}}})

	const name = "_acme-challenge.example.test"
	if got := cache.Query(t, name, dns.TypeTXT); got.Rcode != dns.RcodeNameError {
		t.Errorf("before: %v", got)
	}
	if rcode := update(t, primary, "example.test", name, "one"); rcode != dns.RcodeSuccess {
		t.Errorf("update: rcode %d", rcode)
	}
	if rcode := update(t, primary, "example.invalid", "a.example.invalid", "one"); rcode != dns.RcodeRefused {
		t.Errorf("update of a zone without policy: rcode %d", rcode)
	}
	if got := primary.Records(t, name, dns.TypeTXT); !slices.Equal(got, []string{"one"}) {
		t.Errorf("primary has %q", got)
	}
	if len(primary.Queries(name, "TXT")) < 2 {
		t.Error("the log lacks the queries")
	}
	if got := cache.Records(t, name, dns.TypeTXT); got != nil {
		t.Errorf("cache has forgotten that the name was not there: %q", got)
	}
	if got := secondary.Records(t, name, dns.TypeTXT); got != nil {
		t.Errorf("secondary has %q before it was told", got)
	}
	secondary.Notify(t, "example.test")
	for deadline := time.Now().Add(patience); len(secondary.Records(t, name, dns.TypeTXT)) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("secondary never came for its copy")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestFreezeStopAgain(t *testing.T) {
	s := Start(t, Config{Zones: []Zone{{Name: "example.test"}}})
	s.Freeze()
	if _, err := s.ask("example.test", dns.TypeSOA, 200*time.Millisecond); err == nil {
		t.Error("frozen, and answers")
	}
	s.Thaw()
	s.Query(t, "example.test", dns.TypeSOA)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := s.ask("example.test", dns.TypeSOA, 200*time.Millisecond); err == nil {
		t.Error("stopped, and answers")
	}
	if err := s.Again(); err != nil {
		t.Fatal(err)
	}
	s.Query(t, "example.test", dns.TypeSOA)
}
