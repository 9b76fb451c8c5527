package dns

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/miekg/dns"

	"smtpseal/certs"
	"smtpseal/test/bind"
)

const mailTLSA = "_25._tcp.mail.example.test"

// daneRig is a zone with a primary ns1 (127.0.0.2) and a secondary ns2
// (127.0.0.3), which copies it only when it is told to.
func daneRig(t *testing.T, records string) (z *TLSA, primary, secondary *bind.Server) {
	t.Helper()
	primary = bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{{
		Name: "example.test", Policy: []string{"grant acme. zonesub TLSA"},
		Servers: map[string]string{"ns1": "127.0.0.2", "ns2": "127.0.0.3"}, Records: records,
	}}})
	secondary = bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Primary: primary.Addr()}}})
	z = reader(t, Options{Provider: signed(t, primary.Addr())})
	routed(z.solver, primary.Addr(), map[string]string{"127.0.0.2": primary.Addr(), "127.0.0.3": secondary.Addr()})
	return z, primary, secondary
}

func reader(t *testing.T, options Options) *TLSA {
	t.Helper()
	if options.Log == nil {
		options.Log, _ = logger(t, tsigSecret)
	}
	z, err := NewTLSA(options)
	good(t, err)
	return z
}

// data is a record's, of a hash that a digit stands for.
func data(digit string) string { return "3 1 1 " + strings.Repeat(digit, 64) }

const (
	ns1 = "ns1.example.test (127.0.0.2:53)"
	ns2 = "ns2.example.test (127.0.0.3:53)"
)

func TestTLSARecordsAreReadAtEveryServer(t *testing.T) {
	z, primary, secondary := daneRig(t, "_25._tcp.mail 300 TLSA 2 1 1 "+strings.Repeat("c", 64))
	ctx := t.Context()
	good(t, z.Publish(ctx, mailTLSA+".", []string{data("a"), data("b")}, nil, 700*time.Second))
	answers, ttl, err := z.TLSA(ctx, mailTLSA+".")
	good(t, err)
	for _, answer := range answers {
		slices.Sort(answer.Records)
	}
	ca := "2 1 1 " + strings.Repeat("c", 64)
	if len(answers) != 2 || !slices.Equal(answers[ns1].Records, []string{ca, data("a"), data("b")}) || !slices.Equal(answers[ns2].Records, []string{ca}) {
		t.Errorf("answers %v", answers)
	}
	if ttl != 700*time.Second {
		t.Errorf("ttl %v: BIND gives all records of a name the last one's", ttl)
	}
	// What is there already is no error, and others' records stay.
	good(t, z.Publish(ctx, mailTLSA, []string{data("a")}, []string{data("b"), data("d")}, 0))
	copied(t, primary, secondary)
	answers, _, err = z.TLSA(ctx, mailTLSA)
	good(t, err)
	if len(answers[ns2].Records) != 2 || !slices.Contains(answers[ns2].Records, data("a")) || !slices.Contains(answers[ns2].Records, ca) {
		t.Errorf("answers %v", answers)
	}
}

// copied has the secondary copy the zone.
func copied(t *testing.T, primary, secondary *bind.Server) {
	t.Helper()
	secondary.Notify(t, "example.test")
	want := primary.Records(t, mailTLSA, dns.TypeTLSA)
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(secondary.Records(t, mailTLSA, dns.TypeTLSA), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the secondary never came for its copy")
		}
	}
}

func TestTLSAOfANameThatDoesNotExist(t *testing.T) {
	z, _, _ := daneRig(t, "")
	answers, ttl, err := z.TLSA(t.Context(), mailTLSA)
	if err != nil || len(answers) != 2 || answers[ns1].Err != nil || len(answers[ns1].Records) != 0 || ttl != 0 {
		t.Errorf("%v %v %v", answers, ttl, err)
	}
}

// More than 512 octets come by TCP.
func TestTLSAAnswersThatAreCutOff(t *testing.T) {
	z, _, _ := daneRig(t, "")
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("3 1 1 %064x", i))
	}
	good(t, z.Publish(t.Context(), mailTLSA, many, nil, time.Minute))
	answers, _, err := z.TLSA(t.Context(), mailTLSA)
	if err != nil || len(answers[ns1].Records) != len(many) {
		t.Errorf("%d records, %v", len(answers[ns1].Records), err)
	}
}

// A server that is silent, one that does not have the zone, one that only
// passes questions on, one without an address: each is named, none left out.
func TestTLSAServersThatSayNothing(t *testing.T) {
	primary := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{{
		Name: "example.test", Records: "_25._tcp.mail TLSA " + data("a") + "\n@ NS nowhere.invalid.",
		Servers: map[string]string{"ns1": "127.0.0.2", "silent": "127.0.0.3", "lame": "127.0.0.4", "cache": "127.0.0.5"},
	}}})
	silent := bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Primary: primary.Addr()}}})
	lame := bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "other.test"}}})
	cache := bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Forward: primary.Addr()}}})
	z := reader(t, Options{})
	routed(z.solver, primary.Addr(), map[string]string{"127.0.0.2": primary.Addr(), "127.0.0.3": silent.Addr(), "127.0.0.4": lame.Addr(), "127.0.0.5": cache.Addr()})
	silent.Freeze()
	defer silent.Thaw()
	cache.Query(t, mailTLSA, dns.TypeTLSA) // so that it is no longer the server's own word
	start := time.Now()
	answers, _, err := z.TLSA(t.Context(), mailTLSA)
	good(t, err)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if len(answers) != 5 || answers[ns1].Err != nil {
		t.Errorf("answers %v", answers)
	}
	for server, why := range map[string]string{
		"silent.example.test (127.0.0.3:53)": "no answer", "lame.example.test (127.0.0.4:53)": "REFUSED",
		"cache.example.test (127.0.0.5:53)": "does not serve", "nowhere.invalid": "addresses",
	} {
		says(t, answers[server].Err, why)
	}
	if err := z.Publish(t.Context(), mailTLSA, []string{data("b")}, nil, time.Minute); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("published without a provider: %v", err)
	}
}

// On a machine without IPv6 a server's IPv6 address says nothing about it. One
// that has no other does.
func TestTLSAWithoutIPv6(t *testing.T) {
	server := bind.Start(t, bind.Config{Zones: []bind.Zone{{
		Name: "example.test", Records: "ns1 AAAA 2001:db8::1\nns6 AAAA 2001:db8::2\n@ NS ns6\n_25._tcp.mail TLSA " + data("a"),
		Servers: map[string]string{"ns1": "127.0.0.2"},
	}}})
	z := routedTLSA(t, server.Addr(), map[string]string{"127.0.0.2": server.Addr()})
	dial := z.solver.dial
	z.solver.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "[2001:") {
			return nil, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}
		}
		return dial(ctx, network, addr)
	}
	answers, _, err := z.TLSA(t.Context(), mailTLSA)
	if err != nil || len(answers) != 2 || len(answers[ns1].Records) != 1 || answers["ns6.example.test ([2001:db8::2]:53)"].Err == nil {
		t.Errorf("%v %v", answers, err)
	}
}

func routedTLSA(t *testing.T, system string, routes map[string]string) *TLSA {
	t.Helper()
	z := reader(t, Options{})
	routed(z.solver, system, routes)
	return z
}

// TLSA records may stand at the end of a CNAME (RFC 7671 section 7), in a zone
// whose servers are others.
func TestTLSAAtTheEndOfACNAME(t *testing.T) {
	front := bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Servers: map[string]string{"ns": "127.0.0.2"}, Records: "_25._tcp.mail CNAME _dane.other.test."}}})
	back := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{
		{Name: "other.test", Servers: map[string]string{"ns": "127.0.0.3"}, Policy: []string{"grant acme. zonesub TLSA"}},
	}})
	cache := bind.Start(t, bind.Config{Zones: []bind.Zone{{Name: "example.test", Forward: front.Addr()}, {Name: "other.test", Forward: back.Addr()}}})
	z := reader(t, Options{Provider: signed(t, back.Addr()), Resolvers: []string{cache.Addr()}})
	routed(z.solver, cache.Addr(), map[string]string{"127.0.0.2": front.Addr(), "127.0.0.3": back.Addr()})
	good(t, z.Publish(t.Context(), mailTLSA, []string{data("a")}, nil, time.Minute))
	answers, ttl, err := z.TLSA(t.Context(), mailTLSA)
	if err != nil || len(answers) != 1 || !slices.Equal(answers["ns.other.test (127.0.0.3:53)"].Records, []string{data("a")}) || ttl != time.Minute {
		t.Errorf("%v %v %v", answers, ttl, err)
	}
}

// A resolver that is one of the zone's servers is asked at its own port: NS
// records know only 53.
func TestTLSAAtAResolverThatIsTheServer(t *testing.T) {
	server := bind.Start(t, bind.Config{Keys: []bind.Key{tsigKey}, Zones: []bind.Zone{{Name: "example.test", Policy: []string{"grant acme. zonesub TLSA"}}}})
	for name, options := range map[string]Options{
		"resolver": {Resolvers: []string{server.Addr()}},
		"provider": {Provider: signed(t, server.Addr())},
	} {
		z := reader(t, options)
		answers, _, err := z.TLSA(t.Context(), mailTLSA)
		if err != nil || len(answers) != 1 {
			t.Errorf("%s: %v %v", name, answers, err)
		}
		for at, answer := range answers {
			if answer.Err != nil {
				t.Errorf("%s: %s: %v", name, at, answer.Err)
			}
		}
	}
}

// validator is a resolver that has validated, or not.
type validator struct{ signed bool }

func (v validator) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	answer.AuthenticatedData = v.signed && question.AuthenticatedData
	if question.Question[0].Qtype == dns.TypeSOA {
		soa, _ := dns.NewRR("example.test. 60 SOA ns1.example.test. host.example.test. 1 60 60 60 60")
		answer.Answer = []dns.RR{soa}
	}
	_ = w.WriteMsg(answer)
}

func TestTLSAInAZoneThatIsNotSigned(t *testing.T) {
	for _, isSigned := range []bool{true, false} {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		good(t, err)
		server := &dns.Server{PacketConn: conn, Handler: validator{isSigned}}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.ActivateAndServe() })
		log, lines := logger(t)
		z := reader(t, Options{Resolvers: []string{conn.LocalAddr().String()}, Log: log})
		if got := z.signed(t.Context(), "example.test."); got != isSigned {
			t.Errorf("signed %v, want %v", got, isSigned)
		}
		for range 2 {
			z.warnUnsigned(t.Context(), "example.test.")
		}
		if n := lines.FilterMessageSnippet("DNSSEC").Len(); n == 0 == !isSigned || n > 1 {
			t.Errorf("signed %v: warned %d times", isSigned, n)
		}
		good(t, server.Shutdown())
		serving.Wait()
	}
}

func TestTLSAEndsWithItsContext(t *testing.T) {
	z, _, secondary := daneRig(t, "")
	secondary.Freeze()
	defer secondary.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := z.TLSA(ctx, mailTLSA); err == nil || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// The whole way against a real primary and a real secondary, with a TTL of a
// second: publish, the secondary lags, wait, switch, remove.
func TestKeyRollOverAgainstBIND(t *testing.T) {
	z, primary, secondary := daneRig(t, "_25._tcp.mail 1 TLSA 2 1 1 "+strings.Repeat("c", 64))
	ctx := t.Context()
	log, _ := logger(t, tsigSecret, "PRIVATE KEY")
	held := &holder{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	good(t, err)
	good(t, held.issue(ctx, key))
	r := &certs.Roll{Name: "mail.example.test", KeyType: "p256", Storage: &certmagic.FileStorage{Path: t.TempDir()}, Zone: z, Log: log, Current: held.current}
	_, err = r.Publish(ctx, time.Second) // the current one
	good(t, err)
	copied(t, primary, secondary)
	state, err := r.Begin(ctx)
	good(t, err)
	first := state.Current
	_, err = r.Publish(ctx, time.Second)
	good(t, err)
	live := func(when string) {
		t.Helper()
		now := certs.TLSARecords([]string{"mail.example.test"}, []int{25}, held.leaf)[0].Data
		for _, server := range []*bind.Server{primary, secondary} {
			if got := server.Records(t, mailTLSA, dns.TypeTLSA); !slices.ContainsFunc(got, func(r string) bool { return strings.EqualFold(r, now) }) {
				t.Errorf("%s: in use is %s, DNS has %q", when, now, got)
			}
		}
	}
	live("published")

	_, err = r.Switch(ctx, held.issue)
	says(t, err, ns2+" lacks "+mailTLSA)
	copied(t, primary, secondary)
	secondary.Freeze()
	_, err = r.Switch(ctx, held.issue)
	secondary.Thaw()
	says(t, err, ns2+" says nothing", "no answer")
	_, err = r.Switch(ctx, held.issue)
	says(t, err, "wait another")
	if held.orders != 1 {
		t.Fatalf("%d orders", held.orders)
	}
	time.Sleep(2100 * time.Millisecond)
	if state, err = r.Switch(ctx, held.issue); err != nil || state.Phase != certs.RollSwitched || held.orders != 2 {
		t.Fatalf("%+v, %v", state, err)
	}
	live("switched")
	if want := []certs.TLSARecord{{Name: mailTLSA + ".", Data: first}}; !slices.Equal(state.Remove, want) {
		t.Errorf("remove %v, want %v", state.Remove, want)
	}
	good(t, z.Publish(ctx, state.Remove[0].Name, nil, []string{state.Remove[0].Data}, time.Second)) // as by hand
	if state, err = r.Check(ctx); err != nil || state.Phase != certs.RollSwitched {
		t.Errorf("the secondary still has it: %+v, %v", state, err)
	}
	copied(t, primary, secondary)
	if state, err = r.Check(ctx); err != nil || state.Phase != certs.RollNone {
		t.Errorf("%+v, %v", state, err)
	}
	live("removed")
	if got := primary.Records(t, mailTLSA, dns.TypeTLSA); len(got) != 2 {
		t.Errorf("DNS has %q, want the CA's and the new one", got)
	}
}

// A holder is what a storage has of certificates.
type holder struct {
	leaf   *x509.Certificate
	orders int
}

func (h *holder) current(context.Context) (*x509.Certificate, error) { return h.leaf, nil }

func (h *holder) issue(_ context.Context, key crypto.Signer) error {
	h.orders++
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(h.orders)), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mail.example.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	h.leaf, err = x509.ParseCertificate(der)
	return err
}
