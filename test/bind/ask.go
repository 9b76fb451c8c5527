package bind

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ready waits until the server answers for each of its zones; a secondary has
// to have its copy.
func (s *Server) ready() error {
	deadline := time.Now().Add(patience)
	for _, zone := range s.zones {
		for !s.holds(zone) {
			select {
			case <-s.ended:
				return errors.New("named has ended at once")
			default:
			}
			if strings.Contains(s.Log(), "not loaded due to errors") {
				return fmt.Errorf("zone %s has errors", zone.Name)
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("no answer for %s in %s", zone.Name, patience)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// holds reports whether a zone is loaded. What is forwarded is not held: there
// the question is not passed on, and any answer will do.
func (s *Server) holds(zone Zone) bool {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(zone.Name), dns.TypeSOA)
	question.RecursionDesired = false
	client := dns.Client{Net: "tcp", Timeout: 500 * time.Millisecond}
	answer, _, err := client.Exchange(question, s.addr)
	return err == nil && (zone.Forward != "" || len(answer.Answer) == 1)
}

func (s *Server) ask(name string, kind uint16, wait time.Duration) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	client := dns.Client{Net: "tcp", Timeout: wait}
	answer, _, err := client.Exchange(question, s.addr)
	return answer, err
}

// Query asks the server itself.
func (s *Server) Query(t testing.TB, name string, kind uint16) *dns.Msg {
	t.Helper()
	answer, err := s.ask(name, kind, patience)
	if err != nil {
		t.Fatalf("bind: query %s: %v", name, err)
	}
	return answer
}

// Records are the values of one name and type as a zone file has them, sorted;
// of TXT without quotes.
func (s *Server) Records(t testing.TB, name string, kind uint16) []string {
	t.Helper()
	var found []string
	for _, record := range s.Query(t, name, kind).Answer {
		if record.Header().Rrtype != kind {
			continue
		}
		value := strings.TrimPrefix(record.String(), record.Header().String())
		found = append(found, strings.Trim(value, `"`))
	}
	slices.Sort(found)
	return found
}

// Notify tells a secondary that its zone has changed, as its primary would
// (RFC 1996), and returns when it has heard.
func (s *Server) Notify(t testing.TB, zone string) {
	t.Helper()
	notice := new(dns.Msg).SetNotify(dns.Fqdn(zone))
	client := dns.Client{Timeout: patience}
	answer, _, err := client.Exchange(notice, s.addr)
	if err != nil || answer.Rcode != dns.RcodeSuccess {
		t.Fatalf("bind: notify %s: %v %v", zone, err, answer)
	}
}
