package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"smtpseal/test/bind"
)

const apex = "_acme-challenge.example.test"

// one server for one zone that the key may write.
func oneServer(t *testing.T, records string) *bind.Server {
	t.Helper()
	return bind.Start(t, bind.Config{
		Keys:  []bind.Key{tsigKey},
		Zones: []bind.Zone{{Name: "example.test", Policy: txtOnly, Records: records}},
	})
}

// RFC 8555 section 8.4: the challenges of example.test and *.example.test are
// two values of one name at the same time.
func TestApexAndWildcardLiveSideBySide(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	ctx := t.Context()
	one, two := challenge("example.test", "one"), challenge("example.test", "two")

	good(t, s.Present(ctx, one))
	good(t, s.Present(ctx, two))
	good(t, s.Wait(ctx, one))
	good(t, s.Wait(ctx, two))
	texts(t, server, apex, one, two)
	good(t, s.CleanUp(ctx, one))
	texts(t, server, apex, two)
	good(t, s.CleanUp(ctx, two))
	texts(t, server, apex)
	if len(s.written) != 0 {
		t.Error("the solver remembers what is gone")
	}
}

func TestTheSameValueOfTwoOrdersStaysForTheSecond(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, s.Present(ctx, one))
	good(t, s.CleanUp(ctx, one))
	texts(t, server, apex, one)
	good(t, s.CleanUp(ctx, one))
	texts(t, server, apex)
	good(t, s.CleanUp(ctx, one)) // once more does no harm
}

// BIND accepts and ignores an update beside a CNAME, so the record has to go
// where the CNAMEs lead.
func TestDelegationOverTwoHops(t *testing.T) {
	server := bind.Start(t, bind.Config{
		Keys: []bind.Key{tsigKey},
		Zones: []bind.Zone{
			{Name: "example.test", Records: "_acme-challenge.mail CNAME mail.between.test."},
			{Name: "between.test", Records: "mail CNAME mail.challenges.test."},
			{Name: "challenges.test", Policy: txtOnly},
		},
	})
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	ctx, one := t.Context(), challenge("mail.example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, s.Wait(ctx, one))
	texts(t, server, "mail.challenges.test", one)
	good(t, s.CleanUp(ctx, one))
	texts(t, server, "mail.challenges.test")
}

// Two zones on two servers, seen through a resolver with a cache. Nobody may
// ask the resolver for the name itself: it would remember for an hour that there
// is nothing.
func TestDelegationToAnotherServerLeavesTheCacheClean(t *testing.T) {
	front := bind.Start(t, bind.Config{Zones: []bind.Zone{
		{Name: "example.test", Servers: map[string]string{"ns": "127.0.0.2"}, Records: "_acme-challenge.system CNAME system.challenges.test.\n" +
			"_acme-challenge.given CNAME given.challenges.test."},
	}})
	back := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
		{Name: "challenges.test", Servers: map[string]string{"ns": "127.0.0.3"}, Policy: txtOnly},
	}})
	cache := bind.Start(t, bind.Config{Zones: []bind.Zone{
		{Name: "example.test", Forward: front.Addr()}, {Name: "challenges.test", Forward: back.Addr()},
	}})
	routes := map[string]string{"127.0.0.2": front.Addr(), "127.0.0.3": back.Addr()}
	ctx := t.Context()

	for name, resolvers := range map[string][]string{"system": nil, "given": {cache.Addr()}} {
		t.Run(name, func(t *testing.T) {
			s := routed(solver(t, Options{Provider: signed(t, back.Addr()), Resolvers: resolvers}), cache.Addr(), routes)
			one, target := challenge(name+".example.test", "one"), name+".challenges.test"
			good(t, s.Present(ctx, one))
			for _, kind := range []string{"CNAME", "TXT", "SOA"} {
				if asked := cache.Queries(target, kind); len(asked) > 0 {
					t.Errorf("the resolver was asked for a record that was not there yet: %q", asked)
				}
			}
			good(t, s.Wait(ctx, one))
			texts(t, cache, target, one)
			good(t, s.CleanUp(ctx, one))
			texts(t, back, target)
		})
	}
}

// Some delegate _acme-challenge as a zone of its own.
func TestChallengeNameThatIsAZone(t *testing.T) {
	front := bind.Start(t, bind.Config{Zones: []bind.Zone{{
		Name: "example.test", Servers: map[string]string{"ns": "127.0.0.2"},
		Records: "_acme-challenge NS ns._acme-challenge\nns._acme-challenge A 127.0.0.3",
	}}})
	back := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
		{Name: apex, Policy: txtOnly, Servers: map[string]string{"ns": "127.0.0.3"}},
	}})
	cache := bind.Start(t, bind.Config{Zones: []bind.Zone{
		{Name: "example.test", Forward: front.Addr()}, {Name: apex, Forward: back.Addr()},
	}})
	routes := map[string]string{"127.0.0.2": front.Addr(), "127.0.0.3": back.Addr()}
	s := routed(solver(t, Options{Provider: signed(t, back.Addr())}), cache.Addr(), routes)
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, s.Wait(ctx, one))
	texts(t, back, apex, one)
	good(t, s.CleanUp(ctx, one))
	texts(t, back, apex)
}

// RFC 4592 section 2.2.1: the wildcard of a web site is no delegation, and is
// out of the way as soon as the record is there.
func TestAWildcardCNAMEIsNoDelegation(t *testing.T) {
	server := oneServer(t, "* CNAME web.elsewhere.test.")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, s.Wait(ctx, one))
	texts(t, server, apex, one)
	good(t, s.CleanUp(ctx, one))
	texts(t, server, apex)
}

// Every question would wait for it otherwise, and the order fail.
func TestASilentResolverIsAskedLastOnceItIsKnown(t *testing.T) {
	server, silent := oneServer(t, ""), oneServer(t, "")
	silent.Freeze()
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{silent.Addr(), server.Addr()}, PropagationTimeout: -1})
	began, one := time.Now(), challenge("example.test", "one")
	good(t, s.Present(t.Context(), one))
	if took := time.Since(began); took > 3*askTimeout {
		t.Errorf("took %s", took)
	}
	good(t, s.CleanUp(t.Context(), one))
}

func TestCNAMEsThatLeadNowhere(t *testing.T) {
	var chain strings.Builder
	for i := range maxHops + 2 {
		fmt.Fprintf(&chain, "hop%d CNAME hop%d\n", i, i+1)
	}
	server := bind.Start(t, bind.Config{
		Keys: []bind.Key{tsigKey},
		Zones: []bind.Zone{
			{Name: "example.test", Policy: txtOnly, Records: chain.String() +
				"_acme-challenge.circle CNAME one\n" +
				"one CNAME two\n" +
				"two CNAME one\n" +
				"_acme-challenge.long CNAME hop0\n" +
				"_acme-challenge.denied CNAME x.closed.test.\n" +
				"_acme-challenge.unknown CNAME x.elsewhere.test.\n" +
				"_acme-challenge.strange CNAME a\\$b"},
			{Name: "closed.test"},
		},
	})
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	for label, want := range map[string][]string{
		"circle":  {"_acme-challenge.circle.example.test → one.example.test → two.example.test → one.example.test", "circle"},
		"long":    {"more than 8 CNAMEs"},
		"denied":  {"_acme-challenge.denied.example.test, a CNAME to x.closed.test", "REFUSED", "TSIG key acme", "update-policy", "zone closed.test"},
		"unknown": {"x.elsewhere.test", "REFUSED", "acme.dns.resolvers"},
		"strange": {"_acme-challenge.strange.example.test", "mend the CNAME"},
	} {
		one := challenge(label+".example.test", "one")
		says(t, s.Present(t.Context(), one), want...)
		good(t, s.CleanUp(t.Context(), one)) // that nothing could be written was told already
	}
}

// servers ns1 (127.0.0.2, primary) and ns2 (127.0.0.3, secondary) of one zone.
func twoServers(t *testing.T, options Options) (s *Solver, primary, secondary *bind.Server) {
	t.Helper()
	primary = bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
		{Name: "example.test", Policy: txtOnly, Servers: map[string]string{"ns1": "127.0.0.2", "ns2": "127.0.0.3"}},
	}})
	secondary = bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Primary: primary.Addr()}}})
	options.Provider = signed(t, primary.Addr())
	s = routed(solver(t, options), "127.0.0.1:1", map[string]string{"127.0.0.2": primary.Addr(), "127.0.0.3": secondary.Addr()})
	return s, primary, secondary
}

func TestALaggingSecondaryIsWaitedFor(t *testing.T) {
	s, _, secondary := twoServers(t, Options{})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx, one) }()
	select {
	case err := <-done:
		t.Fatalf("did not wait for the secondary: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	missing, err := s.Missing(ctx, apex, "TXT", one.DNS01KeyAuthorization())
	if err != nil || len(missing) != 1 || missing[0] != "ns2.example.test (127.0.0.3:53) does not have it" {
		t.Errorf("missing: %q %v", missing, err)
	}
	secondary.Notify(t, "example.test")
	good(t, <-done)
	texts(t, secondary, apex, one)
	good(t, s.CleanUp(ctx, one))
}

func TestASecondaryThatNeverComesIsNamed(t *testing.T) {
	s, primary, _ := twoServers(t, Options{PropagationTimeout: 300 * time.Millisecond})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	says(t, s.Wait(ctx, one), apex+" TXT is not visible after 300ms", "ns2.example.test (127.0.0.3:53) does not have it", "propagation_timeout")
	good(t, s.CleanUp(ctx, one))
	texts(t, primary, apex)
}

func TestADeadServerDoesNotStopIt(t *testing.T) {
	for name, kill := range map[string]func(*bind.Server){
		"refuses": func(s *bind.Server) { s.Stop() },
		"silent":  (*bind.Server).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, lines := logger(t, tsigSecret)
			s, _, secondary := twoServers(t, Options{Log: log, PropagationTimeout: time.Minute})
			kill(secondary)
			ctx, one := t.Context(), challenge("example.test", "one")
			good(t, s.Present(ctx, one))
			good(t, s.Wait(ctx, one))
			if lines.FilterMessage("going on without name servers that do not answer").Len() != 1 {
				t.Error("nobody was told that a server is dead")
			}
			good(t, s.CleanUp(ctx, one))
		})
	}
}

// With resolvers set, the dead ones among them do not count, if one answers.
func TestADeadResolverDoesNotStopIt(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{"127.0.0.1:1", server.Addr()}})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, s.Wait(ctx, one))
	good(t, s.CleanUp(ctx, one))
	texts(t, server, apex)
}

func TestNobodyAnswersIsAnError(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}, PropagationTimeout: time.Second})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	good(t, server.Stop())
	says(t, s.Wait(ctx, one), "not visible after 1s", server.Addr()+" connect: connection refused")
	says(t, s.CleanUp(ctx, one), "record is left", "connection refused")
	says(t, s.Present(ctx, challenge("example.test", "two")), "find the zone of example.test", "connection refused", "acme.dns.resolvers")
}

func TestACancelledOrderEndsAtOnceAndLeavesNothing(t *testing.T) {
	s, primary, _ := twoServers(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	one := challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	if err := s.Wait(ctx, one); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("went on for %s", took)
	}
	if err := s.Present(ctx, challenge("example.test", "two")); err == nil {
		t.Error("presents with a cancelled context")
	}
	good(t, s.CleanUp(ctx, one))
	texts(t, primary, apex)
}

func TestNegativeTimeoutDoesNotLookAndDelayIsWaited(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()},
		PropagationTimeout: -1, PropagationDelay: 200 * time.Millisecond})
	ctx, one := t.Context(), challenge("example.test", "one")
	good(t, s.Present(ctx, one))
	began := time.Now()
	good(t, s.Wait(ctx, one))
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("waited %s", took)
	}
	if asked := server.Queries(apex, "TXT"); len(asked) > 0 {
		t.Errorf("looked: %q", asked)
	}
	good(t, s.CleanUp(ctx, one))
}

func TestWaitWithoutPresentIsAnError(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	says(t, s.Wait(t.Context(), challenge("example.test", "one")), "not written")
}

// A closed network: the resolvers of the system know nothing of the zone. The
// server that is written to does.
func TestAZoneThatOnlyItsServerKnows(t *testing.T) {
	for name, settings := range map[string]Settings{
		"found": {},
		"given": {"zone": "example.test"},
	} {
		t.Run(name, func(t *testing.T) {
			server := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
				{Name: "example.test", Policy: txtOnly, Servers: map[string]string{"ns": "127.0.0.2"}},
			}})
			settings["nameserver"], settings["tsig_name"], settings["tsig_secret"] = server.Addr(), "acme", tsigSecret
			s := routed(solver(t, Options{Provider: open(t, "rfc2136", settings)}), "127.0.0.1:1", map[string]string{"127.0.0.2": server.Addr()})
			ctx, one := t.Context(), challenge("deep.below.example.test", "one")
			good(t, s.Present(ctx, one))
			good(t, s.Wait(ctx, one))
			texts(t, server, "_acme-challenge.deep.below.example.test", one)
			good(t, s.CleanUp(ctx, one))
		})
	}
}

// An answer that does not fit into a UDP datagram comes by TCP.
func TestManyValuesOfOneName(t *testing.T) {
	server := oneServer(t, "")
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	ctx := t.Context()
	for i := range 40 {
		good(t, s.Present(ctx, challenge("example.test", fmt.Sprint(i))))
	}
	for i := range 40 {
		good(t, s.Wait(ctx, challenge("example.test", fmt.Sprint(i))))
	}
	truncated, err := s.dial.soon(ctx, "udp", server.Addr(), new(dns.Msg).SetQuestion(apex+".", dns.TypeTXT))
	if err != nil || !truncated.Truncated {
		t.Errorf("the test proves nothing: the answer fits: %v %v", truncated, err)
	}
	for i := range 40 {
		good(t, s.CleanUp(ctx, challenge("example.test", fmt.Sprint(i))))
	}
	texts(t, server, apex)
}

// RFC 6698: the same way writes TLSA records, current and next side by side.
func TestTLSARecords(t *testing.T) {
	server := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
		{Name: "example.test", Policy: []string{"grant acme. zonesub TLSA"}},
	}})
	s := solver(t, Options{Provider: signed(t, server.Addr()), Resolvers: []string{server.Addr()}})
	const name = "_25._tcp.mail.example.test"
	current, next := "3 1 1 "+strings.Repeat("ab", 32), "3 1 1 "+strings.Repeat("CD", 32)
	ctx := t.Context()
	good(t, s.Add(ctx, name, "TLSA", current))
	good(t, s.Add(ctx, name, "TLSA", next))
	good(t, s.Await(ctx, name, "TLSA", next))
	if got := server.Records(t, name, dns.TypeTLSA); len(got) != 2 {
		t.Errorf("records: %q", got)
	}
	good(t, s.Remove(ctx, name, "TLSA", current))
	if missing, err := s.Missing(ctx, name, "TLSA", current); err != nil || len(missing) != 1 {
		t.Errorf("the old one: %q %v", missing, err)
	}
	if missing, err := s.Missing(ctx, name, "TLSA", next); err != nil || len(missing) != 0 {
		t.Errorf("the new one: %q %v", missing, err)
	}
}

func TestResolversAreChecked(t *testing.T) {
	for given, want := range map[string]string{
		"192.0.2.1":       "192.0.2.1:53",
		"2001:db8::1":     "[2001:db8::1]:53",
		"[2001:db8::1]":   "[2001:db8::1]:53",
		"ns.example.test": "ns.example.test:53",
		"127.0.0.1:5353":  "127.0.0.1:5353",
		"":                "",
		"a:b:c":           "",
		"https://1.1.1.1": "",
		"two words":       "",
	} {
		if got, err := address(given); got != want || (want == "") != (err != nil) {
			t.Errorf("%q: %q %v", given, got, err)
		}
	}
	if _, err := NewSolver(Options{Provider: &acmeDNS{}, Resolvers: []string{"a b"}}); err == nil {
		t.Error("a solver with a resolver that is none")
	}
	if _, err := NewSolver(Options{}); err == nil {
		t.Error("a solver without provider")
	}
}
