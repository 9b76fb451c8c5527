package pebble_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"smtpseal/test/pebble"
)

// ask returns the records of both transports, each as its type and data.
func ask(t *testing.T, d *pebble.DNS, name string, kind uint16) (answer, authority []string) {
	t.Helper()
	var first string
	for _, transport := range []string{"udp", "tcp"} {
		question := new(dns.Msg).SetQuestion(name, kind)
		reply, _, err := (&dns.Client{Net: transport}).ExchangeContext(t.Context(), question, d.Addr())
		if err != nil {
			t.Fatal(err)
		}
		answer, authority = data(reply.Answer), data(reply.Ns)
		if both := strings.Join(slices.Concat(answer, authority), "|"); transport == "udp" {
			first = both
		} else if both != first {
			t.Errorf("udp says %s, tcp %s", first, both)
		}
	}
	return answer, authority
}

func data(records []dns.RR) (all []string) {
	for _, r := range records {
		if soa, ok := r.(*dns.SOA); ok {
			all = append(all, "SOA of "+soa.Hdr.Name)
			continue
		}
		all = append(all, strings.Join(strings.Fields(r.String())[3:], " "))
	}
	return all
}

func TestDNSAnswers(t *testing.T) {
	d, err := pebble.ListenDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.SetAddrs("six.example.org", netip.MustParseAddr("::1"))
	d.SetAddrs("none.example.org")
	d.SetTXT("text.example.org", "one", strings.Repeat("x", 300))
	d.SetCNAME("alias.example.org", "Text.Example.ORG.")
	d.SetCNAME("loop.example.org", "loop.example.org")
	d.SetZone("sub.example.org")

	for _, test := range []struct {
		name string
		kind uint16
		want string
	}{
		{"any.example.org.", dns.TypeA, "A 127.0.0.1"},
		{"ANY.example.org.", dns.TypeAAAA, "; SOA of example.org."},
		{"six.example.org.", dns.TypeAAAA, "AAAA ::1"},
		{"six.example.org.", dns.TypeA, "; SOA of example.org."},
		{"none.example.org.", dns.TypeA, "; SOA of example.org."},
		{"text.example.org.", dns.TypeTXT, `TXT "one", TXT "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45) + `"`},
		{"alias.example.org.", dns.TypeTXT, `CNAME text.example.org., TXT "one", TXT "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45) + `"`},
		{"alias.example.org.", dns.TypeCNAME, "CNAME text.example.org."},
		{"loop.example.org.", dns.TypeCNAME, "CNAME loop.example.org."},
		{"example.org.", dns.TypeSOA, "SOA of example.org."},
		{"example.org.", dns.TypeNS, "NS ns.example.org."},
		{"a.b.example.org.", dns.TypeSOA, "; SOA of example.org."},
		{"sub.example.org.", dns.TypeSOA, "SOA of sub.example.org."},
		{"a.sub.example.org.", dns.TypeSOA, "; SOA of sub.example.org."},
		{"org.", dns.TypeSOA, "SOA of org."},
		{".", dns.TypeSOA, "SOA of ."},
		{"a.example.org.", dns.TypeCAA, "; SOA of example.org."},
	} {
		answer, authority := ask(t, d, test.name, test.kind)
		got := strings.Join(answer, ", ")
		if len(authority) > 0 {
			got += "; " + strings.Join(authority, ", ")
		}
		if got != test.want {
			t.Errorf("%s %s: %s, want %s", test.name, dns.TypeToString[test.kind], got, test.want)
		}
	}
}

func TestDNSFailsALoopOfAliases(t *testing.T) {
	d, err := pebble.ListenDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.SetCNAME("a.example.org", "b.example.org")
	d.SetCNAME("b.example.org", "a.example.org")
	reply, _, err := new(dns.Client).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("a.example.org.", dns.TypeTXT), d.Addr())
	if err != nil || reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v %v", reply, err)
	}
	d.SetCNAME("b.example.org", "")
	if answer, _ := ask(t, d, "a.example.org.", dns.TypeA); strings.Join(answer, ", ") != "CNAME b.example.org., A 127.0.0.1" {
		t.Errorf("after the loop: %q", answer)
	}
}
