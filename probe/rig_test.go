package probe_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"smtpseal/probe"
	"smtpseal/test/faulty"
)

// ports are where a server of a mode is expected.
var ports = map[string]string{"implicit": "465", "starttls": "587", "starttls-optional": "25"}

// A rig is a server, DNS and web server of its domain, and what a probe has to
// be told to find them.
type rig struct {
	mu      sync.Mutex // of records, policy and signed, which tests change
	server  *faulty.Server
	records map[string][]string
	policy  string // at mta-sts, with CRLF; "" is 404
	signed  bool   // the DNS server says AD
	where   map[string]string
	options probe.Options
}

// build makes all right but the fault.
func build(t *testing.T, config faulty.Config) *rig {
	t.Helper()
	r := &rig{server: faulty.Start(t, config), signed: true, where: map[string]string{}}
	port := ports[config.Mode]
	r.where[net.JoinHostPort(faulty.Name, port)] = r.server.Addr()
	r.policy = "version: STSv1\r\nmode: enforce\r\nmx: *." + faulty.Domain + "\r\nmax_age: 86400\r\n"
	sum := sha256.Sum256(r.server.Certificate().RawSubjectPublicKeyInfo)
	r.records = map[string][]string{
		"MX " + faulty.Domain + ".":                    {"10 " + faulty.Name + "."},
		"TXT _mta-sts." + faulty.Domain + ".":          {`"v=STSv1; id=1;"`},
		"TLSA _" + port + "._tcp." + faulty.Name + ".": {"3 1 1 " + hex.EncodeToString(sum[:])},
	}
	r.web(t)
	r.options = probe.Options{
		Targets: []probe.Target{{Host: faulty.Name, Port: port}},
		Roots:   r.server.Roots(), Resolver: r.dns(t), Dial: r.dial,
		Relay: &probe.Envelope{From: "a@example.org", To: "b@example.net"}, SmuggleTo: "willing@" + faulty.Domain,
		Timeout: 5 * time.Second, Silence: 50 * time.Millisecond,
	}
	return r
}

// dial knows the names of this test, and no others: nobody else is asked.
func (r *rig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	addr, known := r.where[address]
	if !known {
		return nil, fmt.Errorf("%s is not of this test", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// dns answers from records.
func (r *rig) dns(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(r.answer)}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { server.Shutdown(); <-ended })
	return conn.LocalAddr().String()
}

func (r *rig) answer(w dns.ResponseWriter, question *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := new(dns.Msg).SetReply(question)
	reply.AuthenticatedData = r.signed
	q := question.Question[0]
	kind := dns.TypeToString[q.Qtype]
	values, found := r.records[kind+" "+strings.ToLower(q.Name)]
	if !found {
		reply.Rcode = dns.RcodeNameError
	}
	for _, value := range values {
		if value == "SERVFAIL" {
			reply.Rcode = dns.RcodeServerFailure
			continue
		}
		rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN %s %s", q.Name, kind, value))
		if err != nil {
			panic(err)
		}
		reply.Answer = append(reply.Answer, rr)
	}
	w.WriteMsg(reply)
}

// web serves the policy, with a certificate of the server's CA.
func (r *rig) web(t *testing.T) {
	t.Helper()
	name := "mta-sts." + faulty.Domain
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case strings.HasPrefix(r.policy, "redirect "):
			http.Redirect(w, q, strings.TrimPrefix(r.policy, "redirect "), http.StatusFound)
		case r.policy == "" || q.URL.Path != "/.well-known/mta-sts.txt":
			http.NotFound(w, q)
		default:
			fmt.Fprint(w, r.policy)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{r.server.Authority.Leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{name} })}}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.where[name+":443"] = server.Listener.Addr().String()
}

// run returns the one endpoint, its statuses by id, and the whole report.
func (r *rig) run(t *testing.T) (probe.Endpoint, map[string]probe.Status, probe.Report) {
	t.Helper()
	report := probe.Run(t.Context(), r.options, nil)
	if len(report.Endpoints) != 1 {
		t.Fatalf("%d endpoints", len(report.Endpoints))
	}
	return report.Endpoints[0], statuses(report.Endpoints[0]), report
}

func statuses(e probe.Endpoint) map[string]probe.Status {
	all := map[string]probe.Status{}
	for _, c := range e.Checks {
		all[c.ID] = c.Status
	}
	return all
}

func find(t *testing.T, e probe.Endpoint, id string) probe.Check {
	t.Helper()
	for _, c := range e.Checks {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no check %s among %v", id, e.Checks)
	return probe.Check{}
}
